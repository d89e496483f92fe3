"""Loops for validation and test at several resolutions, with the model loaded once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import IterTimerHook, LoggerHook
from mmengine.logging import print_log
from mmengine.runner import Runner, TestLoop, ValLoop
from mmengine.visualization import LocalVisBackend
from torch.utils.data import DataLoader

from resformer_mm.config.inference_dtype import read_inference_dtype
from resformer_mm.config.resolutions import check_resolutions
from resformer_mm.fingerprint import evaluation_settings, fingerprint
from resformer_mm.libraries import LIBRARIES
from resformer_mm.measured import as_number, is_number, mean
from resformer_mm.registry import LOOPS

from .finished import FILE, FinishedResolutions
from .resolution_loaders import fitted_batch_sizes, loaders_at_resolutions
from .separate_metrics import files_of, separate_evaluator
from .shared_decoding import shared_loader

if TYPE_CHECKING:
    from mmengine.runner.base_loop import BaseLoop as Loop
else:
    Loop = object


class MultiResolutionEvaluation(Loop):
    """Evaluation at several resolutions; a mixin before a validation or test loop of MMEngine.

    The resolution is applied to the pipeline of the data set by
    :func:`~resformer_mm.config.resolutions.pipeline_at_resolution`; the data set is read once. Metrics are
    named ``224/accuracy/top1``, and their mean over the resolutions ``mean/accuracy/top1``.

    In a pass over the data, every image is decoded once for all resolutions of the pass, and what the metrics
    collect is kept for all of them until the end of the pass. One resolution follows the other where that is
    not possible: if a metric writes files for each sample, or the data set does more with its samples than
    its pipeline.

    Args:
        runner: the runner.
        dataloader: config of the data loader.
        evaluator: evaluator or config of one; it is reused for every resolution.
        resolutions: resolutions in pixels, in the order of evaluation.
        fp16: whether to evaluate in mixed precision.
        resolutions_per_pass: number of resolutions that are evaluated in one pass over the data; by default
            all. 1 evaluates one after the other, with the least memory.
        batch_resolution: resolution that the batch size of the data loader is for; by default that of its
            pipeline. Above, batches are smaller, see
            :func:`~resformer_mm.engine.resolution_loaders.fitted_batch_sizes`.

    Raises:
        TypeError: ``dataloader`` is not a config.
        ValueError: the resolutions are missing or malformed, nothing in the pipeline has a size, or another
            argument is not positive.
    """

    evaluator: Evaluator

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        evaluator: Evaluator | dict | list,
        resolutions: Sequence[int],
        fp16: bool = False,
        resolutions_per_pass: int | None = None,
        batch_resolution: int | None = None,
    ) -> None:
        if not isinstance(dataloader, dict):
            raise TypeError(f'{type(self).__name__} needs the config of its data loader, not a loader')
        self.resolutions = check_resolutions(resolutions, 'resolutions', descending=False)
        if resolutions_per_pass is not None and resolutions_per_pass < 1:
            raise ValueError(f'resolutions_per_pass={resolutions_per_pass} must be at least 1')
        diff_rank_seed = runner._randomness_cfg.get('diff_rank_seed', False)
        build = partial(runner.build_dataloader, seed=runner.seed, diff_rank_seed=diff_rank_seed)
        # Workers that persist would stay alive for every resolution at once.
        config = {**dataloader, 'persistent_workers': False}
        sizes = fitted_batch_sizes(config, self.resolutions, batch_resolution)
        self.loaders = loaders_at_resolutions(config, self.resolutions, build, sizes)
        self._share = partial(shared_loader, config, build=build)
        super().__init__(runner, self.loaders[self.resolutions[0]], evaluator, fp16=fp16)
        self.shared_loaders: dict[tuple[int, ...], DataLoader] = {}
        self.resolutions_per_pass = self._possible_per_pass(resolutions_per_pass or len(self.resolutions))

    def evaluate_at(self, resolutions: Sequence[int]) -> Iterator[tuple[int, dict[str, float]]]:
        """Evaluate at some of the resolutions; yield each with its metrics, without it in their names.

        Meanwhile ``evaluator`` is the one that gave these metrics.
        """
        for number in range(0, len(resolutions), self.resolutions_per_pass):
            yield from self._pass(tuple(resolutions[number : number + self.resolutions_per_pass]))

    def _possible_per_pass(self, wanted: int) -> int:
        """Return how many resolutions are evaluated in one pass, and build the loaders of the passes."""
        if wanted == 1 or len(self.resolutions) == 1:
            return 1
        reason = None
        if field := files_of(self.evaluator):
            reason = f'{field} is a place of files for one resolution at a time'
        for start in range(0, len(self.resolutions), wanted):
            if reason is None and not self._shared_loader(tuple(self.resolutions[start : start + wanted])):
                reason = 'the data set does more with its samples than its pipeline'
        if reason is None:
            return wanted
        print_log(f'Every resolution decodes the images again, because {reason}', logger='current')
        return 1

    def _shared_loader(self, resolutions: tuple[int, ...]) -> DataLoader | None:
        if resolutions not in self.shared_loaders:
            loader = self._share({resolution: self.loaders[resolution] for resolution in resolutions})
            if loader is None:
                return None
            self.shared_loaders[resolutions] = loader
        return self.shared_loaders[resolutions]

    def _pass(self, resolutions: tuple[int, ...]) -> Iterator[tuple[int, dict[str, float]]]:
        """Evaluate in one pass over the data; yield every resolution with its metrics."""
        self._tell(resolutions)
        self._restart_timers()
        whole = self.evaluator
        evaluators = {
            resolution: whole if len(resolutions) == 1 else separate_evaluator(whole)
            for resolution in resolutions
        }
        settings = {
            resolution: list(self._settings_at(resolution, evaluator, resolution == resolutions[-1]))
            for resolution, evaluator in evaluators.items()
        }
        changed = [entry for each in settings.values() for entry in each]
        before = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in changed]
        try:
            for resolution, index, batch in self._batches(resolutions):
                self.evaluator, self.dataloader = evaluators[resolution], self.loaders[resolution]
                _assign(settings[resolution])
                self.run_iter(index, batch)
            for resolution in resolutions:
                self.evaluator, self.dataloader = evaluators[resolution], self.loaders[resolution]
                _assign(settings[resolution])
                dataset = self.dataloader.dataset
                assert isinstance(dataset, Sized)  # so are all data sets of MMEngine
                yield resolution, self.evaluator.evaluate(len(dataset))
        finally:
            self.evaluator = whole
            _assign(before)

    def _batches(self, resolutions: tuple[int, ...]) -> Iterator[tuple[int, int, Any]]:
        """Yield resolution, number of the batch at this resolution, and batch."""
        shared = self._shared_loader(resolutions) if len(resolutions) > 1 else None
        if shared is None:
            for index, batch in enumerate(self.loaders[resolutions[0]]):
                yield resolutions[0], index, batch
            return
        counts = dict.fromkeys(resolutions, 0)
        for every_resolution in shared:
            for resolution, batches in zip(resolutions, every_resolution):
                while batches:
                    yield resolution, counts[resolution], batches.pop(0)  # its memory is free afterwards
                    counts[resolution] += 1

    def _tell(self, resolutions: tuple[int, ...]) -> None:
        number = f'{list(self.loaders).index(resolutions[0]) + 1} of {len(self.loaders)}'
        text = f'Evaluating at resolution {resolutions[0]} ({number})'
        if len(resolutions) > 1:
            text = f'Evaluating at resolutions {", ".join(map(str, resolutions))} in one pass over the data'
        print_log(text, logger='current')

    def _restart_timers(self) -> None:
        """Let the time left be that of the pass, and not count the time between two of them."""
        for hook in self.runner.hooks:
            if isinstance(hook, IterTimerHook):
                hook.time_sec_test_val, hook.t = 0, time.time()

    def _evaluated(self) -> dict[int, dict[str, float]]:
        """Return the metrics of every resolution."""
        return dict(self.evaluate_at(self.resolutions))

    def _evaluate(self) -> dict[str, float]:
        """Evaluate at all resolutions; return their metrics and the means."""
        metrics: dict[str, float] = {}
        names: dict[str, list[float]] = {}
        evaluated = self._evaluated()
        for resolution in self.resolutions:
            for name, value in evaluated[resolution].items():
                metrics[f'{resolution}/{name}'] = value = as_number(value)
                if is_number(value):
                    names.setdefault(name, []).append(float(value))
        for name, values in names.items():
            metrics[f'mean/{name}'] = mean(values)
        return metrics

    def _settings_at(
        self, resolution: int, evaluator: Evaluator, is_last: bool
    ) -> Iterator[tuple[object, str, Any]]:
        """Yield owner, attribute and value of what differs between the resolutions of a pass."""
        for owner, attribute, path in self._outputs(evaluator):
            yield owner, attribute, _path_at(path, resolution)
        for hook in self.runner.hooks:
            if isinstance(hook, LoggerHook):
                # One line for all resolutions, after the last of them.
                yield hook, 'interval', hook.interval if is_last else 0

    def _outputs(self, evaluator: Evaluator) -> Iterator[tuple[object, str, str]]:
        """Yield owner, attribute and value of the paths of results, which must differ by resolution."""
        for metric in evaluator.metrics:
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


def _assign(settings: Iterable[tuple[object, str, Any]]) -> None:
    for owner, attribute, value in settings:
        setattr(owner, attribute, value)


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

    def _evaluated(self) -> dict[int, dict[str, float]]:
        """Evaluate at the resolutions at which that was not done before."""
        outputs = {
            resolution: [_path_at(path, resolution) for _, _, path in self._outputs(self.evaluator)]
            for resolution in self.resolutions
        }
        known: list[dict[int, dict[str, float]]] = [{}]
        if self.resume and self._finished is not None:
            found = {key: self._finished.find(key, files) for key, files in outputs.items()}
            known = [{key: metrics for key, metrics in found.items() if metrics is not None}]
        broadcast_object_list(known)
        evaluated = known[0]
        for resolution in evaluated:
            text = f'Resolution {resolution} was finished before: its metrics are those in {FILE}'
            print_log(text, logger='current')
        missing = [resolution for resolution in self.resolutions if resolution not in evaluated]
        for resolution, values in self.evaluate_at(missing):
            metrics = {name: as_number(value) for name, value in values.items()}
            evaluated[resolution] = metrics
            if self._finished is not None:
                self._finished.add(resolution, metrics, outputs[resolution])
        return evaluated
