"""End of the schedule of the learning rate, and end of the training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from resformer_mm.config_types import type_field, type_name
from resformer_mm.datasets.checks.report import Finding

from .subject import Subject

KIND = 'schedule and training end at different times'
DELAYED = ('LinearLR', 'LinearMomentum', 'LinearParamScheduler', 'ConstantLR', 'ConstantMomentum')


def check_end(subject: Subject) -> Iterator[Finding]:
    """Compare the last schedule that changes the learning rate with the length of the training."""
    by_epoch = subject.is_by_epoch
    settings = subject.cfg.get('train_cfg') or {}
    length = settings.get('max_epochs' if by_epoch else 'max_iters')
    if by_epoch is None or not isinstance(length, int):
        return
    total = float(length)  # in epochs or iterations, as the loop counts
    latest = None
    for field, scheduler in subject.items('param_scheduler'):
        for end, source in ends_of(scheduler):
            converted = _convert(subject, end, scheduler.get('by_epoch', True), by_epoch)
            if latest is None or converted > latest[0]:
                latest = converted, end, f'{field}.{source}', scheduler
        yield from _milestones(subject, field, scheduler, total, by_epoch)
    if latest is None or latest[0] == inf:
        return
    end_of_schedule, end, field, scheduler = latest
    if abs(end_of_schedule - total) < (1 if by_epoch else 0.5) * 0.999:
        return
    if end_of_schedule < total and _is_warm_up(scheduler):
        return
    unit = 'epochs' if scheduler.get('by_epoch', True) else 'iterations'
    name = f'train_cfg.max_{"epochs" if by_epoch else "iters"}'
    kept = (
        'afterwards the learning rate stays as it is'
        if end_of_schedule < total
        else 'it is not run to its end'
    )
    yield Finding(
        field,
        KIND,
        f'the schedule ends after {end:g} {unit}, the training after {name} = {length}: {kept}. Set both '
        'to the same length if that is not intended',
        is_fault=False,
    )


def ends_of(scheduler: Mapping) -> list[tuple[float, str]]:
    """Return where a scheduler ends by its own fields, and their names; empty if with the training."""
    begin = scheduler.get('begin', 0)
    if isinstance(scheduler.get('end'), (int, float)):
        return [(scheduler['end'], 'end')]
    if isinstance(scheduler.get('T_max'), (int, float)):
        return [(begin + scheduler['T_max'], 'T_max')]
    return []


def _convert(subject: Subject, number: float, from_epochs: bool, to_epochs: bool) -> float:
    if from_epochs == to_epochs or number == inf:
        return number
    per_epoch = subject.batches_per_epoch
    return number * per_epoch if from_epochs else number / max(per_epoch, 1)


def _milestones(
    subject: Subject, field: str, scheduler: Mapping, total: float, by_epoch: bool
) -> Iterator[Finding]:
    milestones: Any = scheduler.get('milestones')
    if not isinstance(milestones, (list, tuple)):
        return
    late = [
        step
        for step in milestones
        if _convert(subject, step, scheduler.get('by_epoch', True), by_epoch) >= total
    ]
    if late:
        length = f'train_cfg.max_{"epochs" if by_epoch else "iters"} = {total:g}'
        yield Finding(
            f'{field}.milestones',
            KIND,
            f'the training ends after {length}, before the milestones {late}: the learning rate is not '
            'lowered there',
            is_fault=False,
        )


def _is_warm_up(scheduler: Mapping) -> bool:
    """Whether a scheduler ends at the learning rate of the optimiser, which then stays."""
    if type_name(type_field(scheduler)) not in DELAYED:
        return False
    return scheduler.get('end_factor', 1.0) >= scheduler.get('start_factor', scheduler.get('factor', 1 / 3))
