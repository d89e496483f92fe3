"""Weights of the classes in the losses of a model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from resformer_mm.datasets.checks.report import Finding

from .subject import Subject

KIND = 'number of class weights'
FIELDS = ('class_weight', 'pos_weight')


def check_class_weights(subject: Subject) -> Iterator[Finding]:
    """Compare the number of class weights of every loss with the classes of its head."""
    if subject.adapter is None:
        return  # what the losses of other tasks weigh is not known
    modules = dict(subject.model.named_modules())
    expected_by_task = subject.known('class_weights')
    for name, module in modules.items():
        head_name, head, num_classes = _head_of(name, modules)
        if head is None:
            continue
        for field in FIELDS:
            number = _length(vars(module).get(field, getattr(module, field, None)))
            if number is None:
                continue
            allowed = {num_classes}
            if expected_by_task is not None:
                parts = module, name.rpartition('.')[2], head, num_classes
                allowed = set(expected_by_task(*parts)) or {number}
            if number not in allowed:
                wanted = ' or '.join(map(str, sorted(allowed)))
                yield Finding(
                    f'model.{name}.{field}',
                    KIND,
                    f'has {number} weights, but model.{head_name} needs {wanted} (num_classes is '
                    f'{num_classes}): give one weight per class, in the order of the classes',
                )


def _length(value: object) -> int | None:
    """Return the number of weights in a list or a tensor; None for a single weight, or none."""
    if isinstance(value, torch.Tensor):
        return len(value) if value.ndim == 1 else None
    return len(value) if isinstance(value, (list, tuple)) else None


def _head_of(name: str, modules: dict[str, nn.Module]) -> tuple[str, nn.Module | None, int]:
    """Return the innermost module with a number of classes that a module is part of, and this number."""
    parts = name.split('.')
    for length in range(len(parts) - 1, 0, -1):
        owner = modules['.'.join(parts[:length])]
        number = vars(owner).get('num_classes')
        if isinstance(number, int):
            return '.'.join(parts[:length]), owner, number
    return '', None, 0
