"""Loops for validation and test at several resolutions, with the model loaded once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence, Sized
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import IterTimerHook
from mmengine.logging import print_log
from mmengine.runner import Runner, TestLoop, ValLoop
from mmengine.visualization import LocalVisBackend

from resformer_mm.config.inference_dtype import read_inference_dtype
from resformer_mm.config.resolutions import check_resolutions
from resformer_mm.fingerprint import evaluation_settings, fingerprint
from resformer_mm.libraries import LIBRARIES
from resformer_mm.measured import as_number, is_number, mean
from resformer_mm.registry import LOOPS

from .finished import FILE, FinishedResolutions
from .resolution_loaders import loaders_at_resolutions

if TYPE_CHECKING:
    from mmengine.runner.base_loop import BaseLoop as Loop
else:
    Loop = object


class MultiResolutionEvaluation(Loop):
    """Evaluation with one data loader per resolution; a mixin before a validation or test loop of MMEngine.

    The resolution is applied to the pipeline of the data set by
    :func:`~resformer_mm.config.resolutions.pipeline_at_resolution`; the data set is read once. Metrics are
    named ``224/accuracy/top1``, and their mean over the resolutions ``mean/accuracy/top1``.

    Args:
        runner: the runner.
        dataloader: config of the data loader.
        evaluator: evaluator or config of one; it is reused for every resolution.
        resolutions: resolutions in pixels, in the order of evaluation.
        fp16: whether to evaluate in mixed precision.

    Raises:
        TypeError: ``dataloader`` is not a config.
        ValueError: the resolutions are missing or malformed, or nothing in the pipeline has a size.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        evaluator: Evaluator | dict | list,
        resolutions: Sequence[int],
        fp16: bool = False,
    ) -> None:
        if not isinstance(dataloader, dict):
            raise TypeError(f'{type(self).__name__} needs the config of its data loader, not a loader')
        self.resolutions = check_resolutions(resolutions, 'resolutions', descending=False)
        diff_rank_seed = runner._randomness_cfg.get('diff_rank_seed', False)
        build = partial(runner.build_dataloader, seed=runner.seed, diff_rank_seed=diff_rank_seed)
        # Workers that persist would stay alive for every resolution at once.
        config = {**dataloader, 'persistent_workers': False}
        self.loaders = loaders_at_resolutions(config, self.resolutions, build)
        super().__init__(runner, self.loaders[self.resolutions[0]], evaluator, fp16=fp16)

    def evaluate_at(self, resolution: int) -> dict[str, float]:
        """Evaluate at one of the resolutions; return the metrics, without the resolution in their names."""
        number = f'{list(self.loaders).index(resolution) + 1} of {len(self.loaders)}'
        print_log(f'Evaluating at resolution {resolution} ({number})', logger='current')
        self._restart_timers()
        outputs = list(self._outputs())
        for holder, attribute, path in outputs:
            setattr(holder, attribute, _path_at(path, resolution))
        self.dataloader = self.loaders[resolution]
        dataset = self.dataloader.dataset
        assert isinstance(dataset, Sized)  # so are all data sets of MMEngine
        try:
            for index, batch in enumerate(self.dataloader):
                self.run_iter(index, batch)
            return self.evaluator.evaluate(len(dataset))
        finally:
            for holder, attribute, path in outputs:
                setattr(holder, attribute, path)

    def _restart_timers(self) -> None:
        """Let the time left be that of the resolution, and not count the time between two of them."""
        for hook in self.runner.hooks:
            if isinstance(hook, IterTimerHook):
                hook.time_sec_test_val, hook.t = 0, time.time()

    def _metrics_at(self, resolution: int) -> dict[str, float]:
        return self.evaluate_at(resolution)

    def _evaluate(self) -> dict[str, float]:
        """Evaluate at all resolutions; return their metrics and the means."""
        metrics: dict[str, float] = {}
        names: dict[str, list[float]] = {}
        for resolution in self.resolutions:
            for name, value in self._metrics_at(resolution).items():
                metrics[f'{resolution}/{name}'] = value = as_number(value)
                if is_number(value):
                    names.setdefault(name, []).append(float(value))
        for name, values in names.items():
            metrics[f'mean/{name}'] = mean(values)
        return metrics

    def _outputs(self) -> Iterator[tuple[object, str, str]]:
        """Yield owner, attribute and value of the paths of results, which must differ by resolution."""
        for metric in self.evaluator.metrics:
            if getattr(metric, 'out_file_path', None):
                yield metric, 'out_file_path', metric.out_file_path
        folders = {library.hook_folder for library in LIBRARIES.values() if library.hook_folder}
        for hook in self.runner.hooks:
            if not type(hook).__name__.endswith('VisualizationHook'):
                continue
            for attribute in folders:
                if getattr(hook, attribute, None):
                    yield hook, attribute, getattr(hook, attribute)
            if not folders.intersection(vars(hook)) and getattr(hook, 'draw', False):
                for backend in hook._visualizer._vis_backends.values():
                    if isinstance(backend, LocalVisBackend):
                        _ = backend.experiment  # sets its folder
                        yield backend, '_img_save_dir', backend._img_save_dir


def _path_at(path: str, resolution: int) -> str:
    """Return ``results.pkl`` as ``results_224.pkl`` and ``folder`` as ``folder/224``."""
    file = Path(path)
    if file.suffix:
        return str(file.with_name(f'{file.stem}_{resolution}{file.suffix}'))
    return str(file / str(resolution))


@LOOPS.register_module()
class MultiResolutionValLoop(MultiResolutionEvaluation, ValLoop):
    """Validation at several resolutions; ``save_best`` accepts any of the metrics or means."""

    def run(self) -> dict[str, float]:
        """Run validation and return the metrics of all resolutions."""
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        metrics = self._evaluate()
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics


@LOOPS.register_module()
class MultiResolutionTestLoop(MultiResolutionEvaluation, TestLoop):
    """Test at several resolutions with one model in one process.

    The metrics of every resolution are written to ``WORK_DIR/finished_resolutions.json`` when it is finished.

    Args:
        *args: see :class:`MultiResolutionEvaluation`.
        resume: whether to take over what an earlier test with the same weights and settings has finished.
        **kwargs: see :class:`MultiResolutionEvaluation`.
    """

    def __init__(self, *args: Any, resume: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.resume = resume
        self._finished: FinishedResolutions | None = None

    def run(self) -> dict[str, float]:
        """Run the test and return the metrics of all resolutions."""
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        if is_main_process():
            model = getattr(self.runner.model, 'module', self.runner.model)
            dtype = read_inference_dtype(self.runner.cfg)
            settings = f'{evaluation_settings(self.runner.cfg)}\nfp16={self.fp16} dtype={dtype}'
            path = Path(self.runner.work_dir, FILE)
            self._finished = FinishedResolutions(path, fingerprint(settings, model.state_dict()))
        metrics = self._evaluate()
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics

    def _metrics_at(self, resolution: int) -> dict[str, float]:
        """Evaluate at a resolution, unless that was done before."""
        outputs = [_path_at(path, resolution) for _, _, path in self._outputs()]
        known: list[dict[str, float] | None] = [None]
        if self.resume and self._finished is not None:
            known = [self._finished.find(resolution, outputs)]
        broadcast_object_list(known)
        if known[0] is not None:
            text = f'Resolution {resolution} was finished before: its metrics are those in {FILE}'
            print_log(text, logger='current')
            return known[0]
        metrics = {name: as_number(value) for name, value in self.evaluate_at(resolution).items()}
        if self._finished is not None:
            self._finished.add(resolution, metrics, outputs)
        return metrics
