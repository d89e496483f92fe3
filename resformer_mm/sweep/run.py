"""Run of a sweep over models and resolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from mmengine.device import get_device

from resformer_mm.analysis.machine import describe_device
from resformer_mm.cascade import save_outcomes
from resformer_mm.config.files import read_config
from resformer_mm.config.resolutions import check_resolutions, trained_resolutions
from resformer_mm.progress import ProgressDisplay

from .exported import ExportedUnderTest
from .measure import ModelUnderTest
from .record import Point, SweepError, SweepRecord, SweptModel, outcome_path, unique_names

Item = TypeVar('Item')


class Swept(NamedTuple):
    """What is measured under one name.

    Attributes:
        config: config file.
        checkpoint: checkpoint file.
        exported: exported file of the checkpoint; '' for the checkpoint itself.
        patches: ``patch_size`` or ``tokens`` and its value; empty for those of the config.
        of_model: name of the model without the patch size; '' if there is none.
    """

    config: str
    checkpoint: str
    exported: str = ''
    patches: dict[str, int] = {}
    of_model: str = ''


class Sweep:
    """Measures every model at every resolution, and updates the record on disk after every step.

    What an earlier run in the same folder measured is not measured again. Times are taken in rounds, each of
    which visits all models and resolutions once, so that a temporary slowdown affects all of them.

    Args:
        models: pairs of config and checkpoint file; the first is the model in question.
        exported: exported files of the first model, which are measured like further models.
        runtime: runtime of the exported files; by default the one for their suffix.
        out_dir: folder of all results.
        resolutions: test resolutions in pixels; by default those of the first config's ``test_cfg``.
        names: names of the models and then of the exported files; by default those of the config files and
            of the exported files.
        dtype: type in which the models predict, for metrics and times; None is that of the configs.
        batch_size: number of samples of a timed call.
        rounds: timing rounds per point.
        cfg_options: overrides of every config.
        resolutions_per_pass: number of resolutions evaluated in one pass over the data; by default all.
        patch_sizes: patch sizes in pixels at which the first model is measured, each like a further model;
            resolutions below a patch are left out.
        tokens: numbers of tokens, in the place of ``patch_sizes``.

    Attributes:
        path: file of the record.
        record: the measurements so far.
        models: name -> loaded model; empty until :meth:`run`.

    Raises:
        SweepError: the number of names is wrong, a name is repeated, there are no resolutions, or patch sizes
            do not go with another argument.
        FileNotFoundError: the first config does not exist.
        ValueError: a bad resolution, or a config that is not valid.
    """

    def __init__(
        self,
        models: Sequence[tuple[str, str]],
        out_dir: Path,
        resolutions: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        exported: Sequence[str] = (),
        runtime: str | None = None,
        dtype: str | None = None,
        batch_size: int = 1,
        rounds: int = 5,
        cfg_options: dict | None = None,
        resolutions_per_pass: int | None = None,
        patch_sizes: Sequence[int] = (),
        tokens: Sequence[int] = (),
    ) -> None:
        files = [Swept(*pair) for pair in models] + [Swept(*models[0], file) for file in exported]
        self.files = dict(zip(_check_names(files, names), files))
        if patch_sizes or tokens:
            self.files = _at_patches(self.files, patch_sizes, tokens)
        self.runtime = runtime
        self.resolutions = _check_resolutions(models[0][0], resolutions, cfg_options)
        self._resolutions_of = {
            name: [side for side in self.resolutions if side >= one.patches.get('patch_size', 0)]
            for name, one in self.files.items()
        }
        if too_large := [name for name, sides in self._resolutions_of.items() if not sides]:
            raise SweepError(f'--patch-sizes: {too_large[0]} is larger than every resolution: leave it out')
        self.out_dir, self.path = out_dir, out_dir / 'sweep.json'
        self.dtype, self.batch_size, self.rounds, self.cfg_options = dtype, batch_size, rounds, cfg_options
        self.resolutions_per_pass = resolutions_per_pass
        self.models: dict[str, ModelUnderTest] = {}
        self.record = SweepRecord(
            {
                'device': describe_device(get_device()),
                'threads': torch.get_num_threads(),
                'precision': 'float32',
                'batch_size': batch_size,
                'torch': torch.__version__,
            }
        )
        self._progress = ProgressDisplay()

    def run(self) -> SweepRecord:
        """Measure what was not measured yet, and return the record.

        Raises:
            SweepError: the folder has a sweep of another model, a model has no metric, or the run was
                interrupted.
            FileNotFoundError: a config or checkpoint does not exist.
            CheckpointError: a checkpoint cannot be read, or does not fit its model.
            ValueError: a config cannot be tested at other resolutions.
        """
        with self._progress:
            evaluation = self._progress.add('evaluation, batches')
            for name, one in self.files.items():
                self._load(name, one, lambda: self._progress.advance(evaluation))
            used = {model.dtype: None for model in self.models.values()}
            self.record.conditions['precision'] = ' and '.join(used)
            self.record.resume_from(self.path)
            for swept in self.record.models:
                if swept.name in self.models:
                    swept.samples = self.models[swept.name].num_samples
                    for resolution in self._resolutions_of[swept.name]:
                        swept.points.setdefault(resolution, Point())
            self._tell_what_is_known()
            with self._resumable():
                self._evaluate(evaluation)
                self._count()
                self._time()
        return self.record

    def _load(self, name: str, one: Swept, after_batch: Callable[[], None]) -> None:
        config, checkpoint, exported = one.config, one.checkpoint, one.exported
        settings: dict[str, Any] = dict(
            resolutions=self._resolutions_of[name],
            work_dir=self.out_dir / 'runs' / name,
            dtype=self.dtype,
            batch_size=self.batch_size,
            cfg_options=self.cfg_options,
            resolutions_per_pass=self.resolutions_per_pass,
            after_batch=after_batch,
        )
        if exported:
            model: ModelUnderTest = ExportedUnderTest(
                config, checkpoint, exported, runtime=self.runtime, **settings
            )
        else:
            model = ModelUnderTest(config, checkpoint, patches=one.patches, **settings)
        self.models[name] = model
        trained_on = trained_resolutions(model.cfg)
        swept = SweptModel(name, config, checkpoint, model.fingerprint, trained_on, model.num_parameters)
        if isinstance(model, ExportedUnderTest):
            swept.exported, swept.runtime = exported, model.file.runtime
            swept.file_size = Path(exported).stat().st_size
        swept.patches, swept.of_model = one.patches, one.of_model
        self.record.models.append(swept)

    def _points(self) -> Iterator[tuple[SweptModel, ModelUnderTest, int, Point]]:
        """Yield all points of the models of this run."""
        for swept in self.record.models:
            if swept.name in self.models:
                for resolution in self._resolutions_of[swept.name]:
                    yield swept, self.models[swept.name], resolution, swept.points[resolution]

    def _tell_what_is_known(self) -> None:
        evaluated = [bool(point.metrics) for *_, point in self._points()]
        if any(evaluated):
            text = f'{sum(evaluated)} of {len(evaluated)} evaluations were finished before: {self.path}'
            print(text, flush=True)

    def _evaluate(self, task: int) -> None:
        todo = [point for point in self._points() if not point[-1].metrics]
        self._progress.set_total(task, sum(model.num_evaluated_batches(r) for _, model, r, _ in todo))
        for swept in self.record.models:
            missing = [resolution for one, _, resolution, _ in todo if one is swept]
            for resolution, metrics, outcomes in self.models[swept.name].evaluate(missing) if missing else ():
                if not metrics:
                    raise SweepError(
                        f'{swept.config}: its test_evaluator gave no metric, so there is nothing to compare'
                    )
                if outcomes is not None:
                    save_outcomes(outcome_path(self.out_dir, swept.name, resolution), *outcomes)
                swept.points[resolution].metrics = metrics
                self.record.save(self.path)
                first, value = next(iter(metrics.items()))
                text = f'{swept.name} at {resolution}: {first} {value:.4g}'
                print(text, flush=True)

    def _count(self) -> None:
        todo = [point for point in self._points() if not point[0].is_counted(point[-1])]
        for swept, model, resolution, point in self._tracked(todo, 'operations and memory'):
            if swept.patches:
                point.tokens = model.count_tokens(resolution)
            point.flops = model.count_flops(resolution)
            point.peak_memory = model.peak_memory(resolution) if model.measures_memory else None

    def _time(self) -> None:
        by_resolution = sorted(self._points(), key=lambda point: point[2])
        todo = [
            point
            for number in range(self.rounds)
            for point in by_resolution
            if len(point[-1].latency) <= number
        ]
        for _, model, resolution, point in self._tracked(todo, 'time, visits'):
            point.latency.append([round(seconds, 7) for seconds in model.time_calls(resolution)])

    def _tracked(self, todo: list[Item], title: str) -> Iterator[Item]:
        """Yield the items; after each, save the record and move the progress bar."""
        task = self._progress.add(title, len(todo))
        for item in todo:
            yield item
            self.record.save(self.path)
            self._progress.advance(task)

    @contextmanager
    def _resumable(self) -> Iterator[None]:
        """Explain after an interrupt that the sweep can be continued."""
        self.record.save(self.path)
        kept = f'the measurements so far are in {self.path}: the same command continues from there'
        try:
            yield
        except KeyboardInterrupt:
            raise SweepError(f'interrupted; {kept}') from None
        except RuntimeError as error:
            # A keyboard interrupt also reaches the workers, and ends them with this error.
            if 'DataLoader worker' in str(error):
                raise SweepError(f'interrupted, or out of memory ({error}); {kept}') from error
            raise


def _at_patches(
    files: dict[str, Swept], patch_sizes: Sequence[int], tokens: Sequence[int]
) -> dict[str, Swept]:
    """Return the files with the first one at every patch size, or number of tokens, in its place."""
    option, key, values = '--tokens', 'tokens', list(tokens)
    if patch_sizes:
        option, key, values = '--patch-sizes', 'patch_size', list(patch_sizes)
    if patch_sizes and tokens:
        raise SweepError('--patch-sizes and --tokens both set the size of the patches: give one of them')
    if any(one.exported for one in files.values()):
        raise SweepError(
            f'{option} does not go with --exported: a file has the patch size it was written with'
        )
    if min(values) < 1 or len(set(values)) < len(values):
        raise SweepError(f'{option}: different positive integers are needed, got {values}')
    name, *others = files
    found = {}
    for value in sorted(values):
        label = f'patch {value}' if patch_sizes else f'{value} tokens'
        found[f'{name}, {label}'] = files[name]._replace(patches={key: value}, of_model=name)
    return {**found, **{other: files[other] for other in others}}


def _check_names(models: Sequence[Swept], names: Sequence[str] | None) -> list[str]:
    if names is None:
        return unique_names([Path(one.exported or one.config).stem for one in models])
    if len(names) != len(models) or len(set(names)) != len(names):
        raise SweepError(f'--names: {len(models)} different names are needed, got {list(names)}')
    if any('/' in name for name in names):
        raise SweepError(f'--names: {list(names)} must not contain "/", since they name folders')
    return list(names)


def _check_resolutions(config: str, resolutions: Sequence[int] | None, cfg_options: dict | None) -> list[int]:
    if resolutions is None:
        resolutions = (read_config(config, cfg_options).get('test_cfg') or {}).get('resolutions')
        if resolutions is None:
            raise SweepError(f'--resolutions is needed: {config} has no `test_cfg.resolutions`')
    return sorted(check_resolutions(resolutions, '--resolutions', descending=False))
