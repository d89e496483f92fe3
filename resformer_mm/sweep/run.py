"""Running a sweep, and going on with one that was interrupted."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resformer_mm.cascade import save_outcomes
from resformer_mm.config.resolutions import check_resolutions

from .measure import ModelUnderTest
from .record import Point, SweepError, SweepRecord, SweptModel, unique_names


@dataclass(frozen=True)
class SweepSettings:
    """What a sweep is asked to do.

    Attributes:
        models: pairs of config and checkpoint file; the first is the model in question.
        out_dir: folder of all results.
        resolutions: test resolutions in pixels; None takes those of the first config's ``test_cfg``.
        names: names of the models; None takes those of the config files.
        amp: mixed precision, for metrics and time.
        batch_size: samples of one timed call.
        rounds: visits of every model and resolution by the clock.
        cfg_options: overrides of every config.
    """

    models: Sequence[tuple[str, str]]
    out_dir: Path
    resolutions: Sequence[int] | None = None
    names: Sequence[str] | None = None
    amp: bool = False
    batch_size: int = 1
    rounds: int = 5
    cfg_options: dict | None = None


def run_sweep(settings: SweepSettings) -> SweepRecord:
    """Measure every model at every resolution; ``sweep.json`` is complete after every step.

    What an earlier run in the same folder has measured is not measured again. Times are taken in rounds, each
    of which visits all models and resolutions once: a machine that slows down for a while slows all of them.

    Raises:
        SweepError: the settings do not go together, or the folder holds a sweep of something else.
        FileNotFoundError: a config or checkpoint does not exist.
        CheckpointError: a checkpoint cannot be read, or does not fit its model.
        ValueError: a bad resolution, or a config that cannot be tested at other resolutions.
    """
    names = _names(settings)
    resolutions = _resolutions(settings)
    path = settings.out_dir / 'sweep.json'
    console = Console()
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        evaluating = progress.add_task('evaluation, batches', total=None)
        models = {}
        for name, (config, checkpoint) in zip(names, settings.models):
            models[name] = ModelUnderTest(
                config,
                checkpoint,
                resolutions,
                settings.out_dir / 'runs' / name,
                amp=settings.amp,
                batch_size=settings.batch_size,
                cfg_options=settings.cfg_options,
                after_batch=lambda: progress.advance(evaluating),
            )
        record = SweepRecord(describe_conditions(settings))
        for name, (config, checkpoint) in zip(names, settings.models):
            swept = SweptModel(name, config, checkpoint, models[name].fingerprint)
            swept.trained_on = _trained_on(models[name].cfg)
            swept.parameters = models[name].num_parameters
            record.models.append(swept)
        record.adopt(path)
        for swept in record.models:
            if swept.name in models:
                swept.samples = models[swept.name].num_samples
                for resolution in resolutions:
                    swept.points.setdefault(resolution, Point())
        with _progress_kept(record, path):
            _evaluate(record, models, settings.out_dir, resolutions, progress, evaluating)
            _count(record, models, path, resolutions, progress)
            _time(record, models, path, resolutions, settings.rounds, progress)
    return record


def describe_conditions(settings: SweepSettings) -> dict[str, str | int | bool]:
    """Return what costs depend on."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f'{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {os.cpu_count()} cores'
    return {
        'device': device,
        'threads': torch.get_num_threads(),
        'precision': 'mixed' if settings.amp else 'float32',
        'batch_size': settings.batch_size,
        'torch': torch.__version__,
    }


def outcome_path(out_dir: Path, name: str, resolution: int) -> Path:
    """Return where the outcomes of a model at a resolution are kept."""
    return out_dir / 'outcomes' / name / f'{resolution}.npz'


def _evaluate(record, models, out_dir, resolutions, progress, task) -> None:
    todo = [
        (swept, models[swept.name], resolution)
        for swept in record.models
        if swept.name in models
        for resolution in resolutions
        if not swept.points[resolution].metrics
    ]
    progress.update(task, total=sum(model.num_evaluated_batches(r) for _, model, r in todo))
    for swept, model, resolution in todo:
        metrics = model.evaluate(resolution)
        if not metrics:
            raise SweepError(
                f'{swept.config}: its test_evaluator gave no metric, so there is nothing to compare'
            )
        outcomes = model.outcome_metric.outcomes
        if outcomes is not None:
            save_outcomes(outcome_path(out_dir, swept.name, resolution), *outcomes)
        swept.points[resolution].metrics = metrics
        record.save(out_dir / 'sweep.json')
        first, value = next(iter(metrics.items()))
        progress.console.print(f'{swept.name} at {resolution}: {first} {value:.4g}', highlight=False)


def _count(record, models, path, resolutions, progress) -> None:
    todo = [
        (swept.points[resolution], models[swept.name], resolution)
        for swept in record.models
        if swept.name in models
        for resolution in resolutions
        if None in (swept.points[resolution].flops, swept.points[resolution].peak_memory)
    ]
    task = progress.add_task('operations and memory', total=len(todo))
    for point, model, resolution in todo:
        point.flops = model.count_flops(resolution)
        point.peak_memory = model.peak_memory(resolution)
        record.save(path)
        progress.advance(task)


def _time(record, models, path, resolutions, rounds, progress) -> None:
    todo = [
        (number, swept.points[resolution], models[swept.name], resolution)
        for number in range(rounds)
        for resolution in resolutions
        for swept in record.models
        if swept.name in models and len(swept.points[resolution].latency) <= number
    ]
    task = progress.add_task('time, visits', total=len(todo))
    for _, point, model, resolution in todo:
        point.latency.append([round(seconds, 7) for seconds in model.time_calls(resolution)])
        record.save(path)
        progress.advance(task)


@contextmanager
def _progress_kept(record: SweepRecord, path: Path) -> Iterator[None]:
    record.save(path)
    kept = f'what was measured is in {path}: the same command goes on from there'
    try:
        yield
    except KeyboardInterrupt:
        raise SweepError(f'interrupted; {kept}') from None
    except RuntimeError as error:
        # An interrupt from the keyboard reaches the workers as well, and this is how their end is told.
        if 'DataLoader worker' in str(error):
            raise SweepError(f'interrupted, or out of memory ({error}); {kept}') from error
        raise


def _names(settings: SweepSettings) -> list[str]:
    if settings.names is None:
        return unique_names([Path(config).stem for config, _ in settings.models])
    if len(settings.names) != len(settings.models) or len(set(settings.names)) != len(settings.names):
        raise SweepError(
            f'--names: {len(settings.models)} different names are needed, got {list(settings.names)}'
        )
    if any('/' in name for name in settings.names):
        raise SweepError(f'--names: {list(settings.names)} must not contain "/", they name folders')
    return list(settings.names)


def _resolutions(settings: SweepSettings) -> list[int]:
    resolutions = settings.resolutions
    if resolutions is None:
        config = settings.models[0][0]
        if not Path(config).is_file():
            raise FileNotFoundError(f'there is no config {config}')
        resolutions = (Config.fromfile(config).get('test_cfg') or {}).get('resolutions')
        if resolutions is None:
            raise SweepError(
                f'--resolutions is needed: {config} has no list of its own (test_cfg.resolutions)'
            )
    return sorted(check_resolutions(resolutions, '--resolutions', descending=False))


def _trained_on(cfg: Config) -> list[int]:
    resolutions = cfg.get('resolutions') or []
    return [value for value in resolutions if isinstance(value, int)]
