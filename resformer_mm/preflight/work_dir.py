"""Whether the work dir, and the checkpoint to resume from, belong to a run of this config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from resformer_mm.checkpoints.reading import CheckpointError, read_content, weights_in
from resformer_mm.datasets.checks.report import Finding
from resformer_mm.text import shorten_list

from .schedule import ends_of
from .subject import Subject

OTHER_RUN = 'work dir of another run'
OTHER_MODEL = 'checkpoint of another model'
UNREADABLE = 'checkpoint cannot be read'
OLD_SCHEDULE = 'schedule of the checkpoint continues'
COMPARED = ('model', 'train_dataloader.dataset', 'val_dataloader.dataset')
# Initial weights do not matter once there are checkpoints.
LEFT_OUT = ('init_cfg', 'pretrained')


def check_owner(subject: Subject) -> Iterator[Finding]:
    """Compare the config with the one that the last run in the work dir left there."""
    work_dir = Path(subject.cfg.work_dir)
    if not any(work_dir.glob('*.pth')):
        return
    name = Path(subject.cfg.filename or '').name
    dumped = [work_dir / name] if name and (work_dir / name).is_file() else sorted(work_dir.glob('*.py'))
    if not dumped:
        return
    newest = max(dumped, key=lambda path: path.stat().st_mtime)
    try:
        before = Config.fromfile(newest)
    except Exception:  # not every Python file there is a config
        return
    different: list[str] = []
    for field in COMPARED:
        different += differences(_get(before, field), _get(subject.cfg, field), field)
    if different:
        consequence = (
            'its checkpoints are continued'
            if subject.cfg.get('resume')
            else 'its checkpoints are overwritten'
        )
        yield Finding(
            str(work_dir),
            OTHER_RUN,
            f'a run with other settings left its checkpoints there, see {newest.name}: '
            f'{shorten_list(different)}; {consequence}. Give this run its own --work-dir',
            is_fault=False,
        )


def check_resumed(subject: Subject) -> Iterator[Finding]:
    """Check that the checkpoint to resume from has the weights of the model and the same schedule."""
    cfg = subject.cfg
    if not cfg.get('resume'):
        return
    path = cfg.get('load_from')
    if path is None or '://' in str(path):
        return
    try:
        content = read_content(path)
        weights = weights_in(content, path)
    except CheckpointError as error:
        yield Finding(str(path), UNREADABLE, str(error))
        return
    yield from _compare_schedules(subject, str(path), content)
    state = subject.model.state_dict()
    missing = [name for name in state if name not in weights.state]
    shapes = [
        f'{name} {tuple(weights.state[name].shape)} instead of {tuple(value.shape)}'
        for name, value in state.items()
        if name in weights.state and weights.state[name].shape != value.shape
    ]
    if missing or shapes:
        parts = []
        if missing:
            parts.append(f'{len(missing)} of {len(state)} tensors are missing: {shorten_list(missing)}')
        if shapes:
            parts.append(f'{len(shapes)} have another shape: {shorten_list(shapes)}')
        yield Finding(
            str(path),
            OTHER_MODEL,
            f'{"; ".join(parts)}. To continue its run, set `model` as it was there; to start a new one from '
            'its weights, set load_from without --resume',
        )


def _compare_schedules(subject: Subject, path: str, content: Mapping) -> Iterator[Finding]:
    """MMEngine restores the schedulers with all their settings, so a new end has no effect."""
    saved = content.get('param_schedulers')
    entries = list(subject.items('param_scheduler'))
    if not isinstance(saved, list) or len(saved) != len(entries):
        return
    for (field, scheduler), state in zip(entries, saved):
        if not isinstance(state, Mapping):
            continue
        is_iterations = scheduler.get('convert_to_iter_based') and scheduler.get('by_epoch', True)
        factor = subject.batches_per_epoch if is_iterations else 1
        for end, name in ends_of(scheduler):
            before = state.get('end') if name == 'end' else None
            if isinstance(before, (int, float)) and before != end * factor:
                yield Finding(
                    f'{field}.{name}',
                    OLD_SCHEDULE,
                    f'is {end:g}, but {path} was trained with a schedule that ends at {before / factor:g}, '
                    'and resuming restores that one. For another schedule, set load_from without --resume',
                    is_fault=False,
                )


def differences(before: Any, now: Any, path: str) -> list[str]:
    """Return what differs between two settings, as 'model.head.num_classes: 10, now 7'."""
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key in [*dict.keys(before), *(key for key in dict.keys(now) if key not in before)]:
            if key not in LEFT_OUT:
                found += differences(dict.get(before, key), dict.get(now, key), f'{path}.{key}')
        return found
    if isinstance(before, (list, tuple)) and isinstance(now, (list, tuple)) and len(before) == len(now):
        return [
            text
            for index, (one, other) in enumerate(zip(before, now))
            for text in differences(one, other, f'{path}.{index}')
        ]
    if before == now or str(before) == str(now):
        return []
    return [f'{path}: {_short(before)}, now {_short(now)}']


def _get(cfg: Config, field: str) -> Any:
    value: Any = cfg._cfg_dict
    for name in field.split('.'):
        value = dict.get(value, name) if isinstance(value, dict) else None
    return value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
