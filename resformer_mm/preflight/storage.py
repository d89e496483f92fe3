"""Space for the checkpoints of a run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from resformer_mm.config_types import type_field, type_name
from resformer_mm.datasets.checks.report import Finding

from .subject import Subject

KIND = 'too little disk space for the checkpoints'
# Hooks that keep an averaged copy of the weights.
AVERAGING = ('EMAHook', 'ShardedEMAHook', 'TeacherHook')
# Tensors of the size of a weight that an optimiser keeps; others keep one, as SGD with momentum does.
STATES = {'SGD': 0, 'Adam': 2, 'AdamW': 2, 'NAdam': 2, 'RAdam': 2, 'Lamb': 2, 'LAMB': 2, 'Adan': 4}


def check_space(subject: Subject) -> Iterator[Finding]:
    """Compare the size of all checkpoints that are kept with the free space."""
    for field, hook in subject.hooks():
        if type_name(type_field(hook)).rpartition('.')[2] not in ('CheckpointHook', 'ExactCheckpointHook'):
            continue
        folder = hook.get('out_dir') or subject.cfg.work_dir
        if '://' in str(folder):
            continue
        size, number = checkpoint_bytes(subject, hook), _number(subject, hook)
        free = shutil.disk_usage(_existing(Path(folder))).free
        if size > free:
            yield Finding(
                field,
                KIND,
                f'one has {_gigabytes(size)}, and {folder} has {_gigabytes(free)} free: free some, or choose '
                'another --work-dir',
            )
        elif size * number > free:
            yield Finding(
                field,
                KIND,
                f'{number} of {_gigabytes(size)} are kept, and {folder} has {_gigabytes(free)} free: set '
                f'{field}.max_keep_ckpts, a longer interval, or another --work-dir',
                is_fault=False,
            )


def weight_bytes(subject: Subject) -> int:
    """Return the size of the weights and buffers, with averaged copies of them."""
    size = sum(value.numel() * value.element_size() for value in subject.model.state_dict().values())
    averaged = any(type_name(type_field(hook)) in AVERAGING for _, hook in subject.hooks())
    return size * (2 if averaged else 1)


def checkpoint_bytes(subject: Subject, hook: Mapping) -> int:
    """Return the size of a checkpoint with the state of the optimiser."""
    if hook.get('save_optimizer', True) is False:
        return weight_bytes(subject)
    optimizer = (subject.cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    name = type_name(type_field(optimizer))
    states = STATES.get(name, 1)
    if name == 'SGD' and optimizer.get('momentum'):
        states = 1
    trained = sum(
        value.numel() * value.element_size() for value in subject.model.parameters() if value.requires_grad
    )
    return weight_bytes(subject) + states * trained


def _number(subject: Subject, hook: Mapping) -> int:
    """Return the most checkpoints that exist at a time; one is written before another is deleted."""
    settings = subject.cfg.get('train_cfg') or {}
    by_epoch, interval = hook.get('by_epoch', True), hook.get('interval', -1)
    if by_epoch:
        length = settings.get('max_epochs') or 1
    else:
        length = settings.get('max_iters') or (settings.get('max_epochs') or 1) * subject.batches_per_epoch
    written = length // interval if interval > 0 else 0
    written += bool(hook.get('save_last', True) and (interval <= 0 or length % interval))
    kept = hook.get('max_keep_ckpts', -1)
    if kept > 0:
        written = min(written, kept + 1)
    best = hook.get('save_best') or []
    return written + (1 if isinstance(best, str) else len(best))


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _gigabytes(size: float) -> str:
    return f'{size / 1e9:.3g} GB'
