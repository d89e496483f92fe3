"""Figures of training logs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from .figures import new_figure, save_figure
from .training_logs import Curve, TrainingLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = ('-', '--', ':', '-.')
# Of a legend: letters across the figure, and the width of a line sample in letters.
LETTERS, LETTERS_OF_HANDLE = 100, 8


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Return the mean of the ``width`` values around each, fewer at the ends, without NaN and infinity."""
    means = []
    for index, value in enumerate(values):
        start = index - width // 2
        around = [other for other in values[max(0, start) : start + width] if math.isfinite(other)]
        means.append(fmean(around) if math.isfinite(value) else math.nan)
    return means


def plot_training_curves(
    logs: Sequence[TrainingLog],
    patterns: Sequence[str],
    path: str | Path,
    legend: Sequence[str] | None = None,
    title: str = '',
    smooth: int = 1,
    by_epoch: bool = False,
) -> list[str]:
    """Draw curves of one or several training runs, with validation metrics in a panel below.

    Args:
        logs: the logs.
        patterns: keys, or shell patterns of keys; each must match in every log.
        path: the image file.
        legend: names of the curves, log by log; by default the keys, with the log's name for several logs.
        title: title of the figure.
        smooth: number of logged values over which training curves are averaged; raw values stay visible.
        by_epoch: whether the x axis counts epochs instead of iterations.

    Returns:
        Notes for the reader: one line per curve that has values that are not finite.

    Raises:
        ValueError: a pattern does not match any key, the number of names in the legend is wrong, the length
            of an epoch is unknown, or ``smooth`` is below 1.
    """
    if smooth < 1:
        raise ValueError(f'cannot smooth over {smooth} values: give at least 1')
    curves = [(log, log.curve(key)) for log in logs for key in log.match(patterns)]
    labels = _labels(logs, curves, legend)
    kinds = sorted({curve.is_metric for _, curve in curves})
    figure = new_figure(8, 1 + 3.6 * len(kinds))
    panels = figure.subplots(len(kinds), sharex=True, squeeze=False)[:, 0]
    for is_metric, axes in zip(kinds, panels):
        chosen = [
            (log, curve, label) for (log, curve), label in zip(curves, labels) if curve.is_metric == is_metric
        ]
        _draw_panel(axes, chosen, logs, smooth, by_epoch)
    panels[-1].set_xlabel('epoch' if by_epoch else 'iteration')
    if title:
        figure.suptitle(title)
    save_figure(figure, path)
    return [
        f'{log.name}: {number} of {len(curve.values)} values of {curve.key} are not finite and leave a gap'
        for log, curve in curves
        if (number := sum(not math.isfinite(value) for value in curve.values))
    ]


def _draw_panel(
    axes: Axes,
    chosen: Sequence[tuple[TrainingLog, Curve, str]],
    logs: Sequence[TrainingLog],
    smooth: int,
    by_epoch: bool,
) -> None:
    keys = list(dict.fromkeys(curve.key for _, curve, _ in chosen))
    for log, curve, label in chosen:
        key_index, log_index = keys.index(curve.key), logs.index(log)
        if len(keys) == 1:
            look = dict(color=_colour(log_index, len(logs)))
        else:  # the same key has the same colour in every log
            look = dict(color=_colour(key_index, len(keys)), linestyle=STYLES[log_index % len(STYLES)])
        _draw(axes, log.epochs(curve) if by_epoch else curve.iterations, curve, label, smooth, look)
    axes.set_ylabel(_common_name(keys))
    axes.grid(alpha=0.3)
    if len(chosen) > 4:  # above the panel, so as not to hide curves
        fitting = LETTERS // (max(len(label) for *_, label in chosen) + LETTERS_OF_HANDLE)
        axes.legend(fontsize=8, loc='lower center', bbox_to_anchor=(0.5, 1), ncols=max(1, fitting))
    else:
        axes.legend(fontsize=8)


def _draw(axes: Axes, x: Sequence[float], curve: Curve, label: str, smooth: int, look: dict) -> None:
    values = [value if math.isfinite(value) else math.nan for value in curve.values]
    if curve.is_metric:
        axes.plot(x, values, label=label, marker='o', markersize=4, **look)
    elif smooth > 1:
        axes.plot(x, values, alpha=0.25, linewidth=0.8, **look)
        axes.plot(x, running_mean(values, smooth), label=label, **look)
    else:
        # A line of one point would be invisible.
        axes.plot(x, values, label=label, linewidth=1.2, marker='.' if len(x) == 1 else '', **look)


def _labels(
    logs: Sequence[TrainingLog], curves: Sequence[tuple[TrainingLog, Curve]], legend: Sequence[str] | None
) -> list[str]:
    keys = {curve.key for _, curve in curves}
    default = []
    for log, curve in curves:
        name = log.name if [other.name for other in logs].count(log.name) == 1 else str(log.files[-1])
        default.append(curve.key if len(logs) == 1 else name if len(keys) == 1 else f'{name}: {curve.key}')
    if legend is not None and len(legend) != len(curves):
        raise ValueError(f'the legend has {len(legend)} names for {len(curves)} curves: {"; ".join(default)}')
    return list(legend or default)


def _colour(index: int, number: int) -> str | tuple:
    from matplotlib import colormaps

    return f'C{index}' if number <= 10 else colormaps['turbo']((index + 0.5) / number)


def _common_name(keys: Sequence[str]) -> str:
    """Return the common start or end of keys: 'loss_cls' for 'loss_cls_64' and 'loss_cls_48'."""
    words = [re.split('([/_])', key) for key in keys]
    start = os.path.commonprefix(words)
    end = os.path.commonprefix([key[::-1] for key in words])[::-1]
    return max(''.join(start), ''.join(end), key=len).strip('/_') or 'value'
