"""Hook that logs metrics by resolution to the trackers of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from resformer_mm.config.resolutions import trained_resolutions
from resformer_mm.measured import as_number, is_number
from resformer_mm.registry import HOOKS

from .logging import log_by_resolution, log_history, log_layout, log_picture, trackers_of

HISTORY = 'metrics_by_resolution'
"""Where the message hub, and so a checkpoint, has the metrics of the earlier validations."""
NAME = 'by_resolution'
MOST_COLUMNS = 3


@HOOKS.register_module()
class ResolutionCurveHook(Hook):
    """Log metrics against the resolution to TensorBoard, Weights & Biases, MLflow and other trackers.

    After every validation at several resolutions, a picture shows the metrics by resolution, with those of
    the earlier validations behind, and in TensorBoard and Weights & Biases there is one chart per metric with
    a curve per resolution. A test at several resolutions logs its curve, with the resolution as the step, and
    the picture. The numbers themselves are logged by MMEngine. Without trackers, nothing is done.

    Every run gets this hook, unless the config has ``default_hooks.resolution_curve=None``.
    """

    priority = 'LOW'  # after LoggerHook, which logs the numbers

    def __init__(self) -> None:
        self._has_layout = False

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log the metrics of a validation, at the step at which MMEngine logs them."""
        if not self._is_active(runner):
            return
        self._log_layout(runner, metrics or {})
        curves = curves_by_resolution(metrics or {})
        if not curves:
            return
        step, unit = _step(runner)
        hub = runner.message_hub
        # A resumed run repeats the validation at which it was interrupted.
        history = [entry for entry in hub.runtime_info.get(HISTORY, ()) if entry[0] < step]
        history.append([step, curves])
        hub.update_info(HISTORY, history)
        log_picture(
            runner.visualizer, NAME, draw_curves_of(history, unit, trained_resolutions(runner.cfg)), step
        )
        for metric, curve in curves.items():
            known = [entry for entry in history if entry[1].get(metric, {}).keys() == curve.keys()]
            series = {str(r): [entry[1][metric][r] for entry in known] for r in curve}
            log_history(runner.visualizer, f'{NAME}/{metric}', [entry[0] for entry in known], series)

    def after_train(self, runner: Runner) -> None:
        """Arrange the losses by resolution if there was no validation."""
        if self._is_active(runner):
            self._log_layout(runner, {})

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log the curve of a test."""
        if not self._is_active(runner):
            return
        curves = curves_by_resolution(metrics or {})
        for metric, curve in curves.items():
            log_by_resolution(runner.visualizer, f'test_{NAME}/{metric}', curve)
        if curves:
            picture = draw_curves_of([[0, curves]], 'test', trained_resolutions(runner.cfg))
            log_picture(runner.visualizer, f'test_{NAME}', picture, 0)

    def _is_active(self, runner: Runner) -> bool:
        return is_main_process() and bool(trackers_of(runner.visualizer))

    def _log_layout(self, runner: Runner, metrics: Mapping[str, Any]) -> None:
        if not self._has_layout:
            self._has_layout = True
            losses = [name.partition('/')[2] for name in runner.message_hub.log_scalars]
            log_layout(runner.visualizer, [*metrics, *losses])


def curves_by_resolution(metrics: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    """Return metric -> resolution -> value of metrics such as ``224/accuracy/top1``.

    Metrics at less than two resolutions, and what is not a number, are left out.
    """
    curves: dict[str, dict[int, float]] = {}
    for name, value in metrics.items():
        first, _, metric = name.partition('/')
        value = as_number(value)
        if first.isdigit() and metric and is_number(value):
            curves.setdefault(metric, {})[int(first)] = float(value)
    return {metric: dict(sorted(curve.items())) for metric, curve in curves.items() if len(curve) > 1}


def draw_curves_of(history: Sequence[Sequence], unit: str, trained_on: Sequence[int] = ()) -> np.ndarray:
    """Draw the last metrics by resolution, with the earlier ones in grey behind; return RGB pixels.

    Args:
        history: pairs of a step and what :func:`curves_by_resolution` returns.
        unit: what the steps count, 'epoch' or 'iteration', or the name of the curve without steps.
        trained_on: resolutions on which the model was trained, which are marked.
    """
    from resformer_mm.analysis.figures import figure_pixels, new_figure
    from resformer_mm.analysis.resolution_curves import ResolutionCurve, draw_curves

    step, last = history[-1]
    columns = min(len(last), MOST_COLUMNS)
    lines = math.ceil(len(last) / columns)
    figure = new_figure(5 * columns, 3.8 * lines)
    panels = iter(figure.subplots(lines, columns, squeeze=False).flat)
    for (metric, curve), axes in zip(last.items(), panels):
        earlier = [entry[1][metric] for entry in history[:-1] if metric in entry[1]]
        for number, before in enumerate(earlier, 1):
            shade = f'{0.92 - 0.3 * number / len(earlier):.2f}'  # the later, the darker
            axes.plot(list(before), list(before.values()), color=shade, linewidth=1)
        name = f'{unit} {step}' if step or unit != 'test' else unit
        draw_curves([ResolutionCurve(name, curve, tuple(trained_on))], axes, metric)
    for axes in panels:  # those that are left
        axes.set_axis_off()
    return figure_pixels(figure)


def _step(runner: Runner) -> tuple[int, str]:
    """Return the step of a validation and its unit, as in LoggerHook."""
    by_epoch = all(hook.log_metric_by_epoch for hook in runner.hooks if isinstance(hook, LoggerHook))
    if not isinstance(runner._train_loop, BaseLoop):  # a validation without training
        return 0, 'epoch'
    return (runner.epoch, 'epoch') if by_epoch else (runner.iter, 'iteration')
