"""Copies of some of the images of a batch.

A step costs less if only a part of its images have a copy at the large resolution. Labels and teachers are
then those of the images that a copy has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class PartialCopy(NamedTuple):
    """A copy of some of the images of a batch.

    A named tuple, because PyTorch pins the memory of its fields, and MMEngine moves them to the device.

    Attributes:
        inputs: n of the B images, ``(n, C, H, W)``, or clips ``(n, num_clips, C, T, H, W)``.
        rows: positions of the n images in the batch, in increasing order.
    """

    inputs: Tensor
    rows: tuple[int, ...]


class Taught(NamedTuple):
    """What a copy gives to compare, as the teacher of smaller copies.

    Attributes:
        values: tensors of its images, ``(n, ...)``, without gradient.
        rows: positions of the images in the batch; None for all.
    """

    values: Tensor
    rows: tuple[int, ...] | None


def select(values: Tensor, positions: Sequence[int]) -> Tensor:
    """Return some rows of a tensor; neighbours in their order as a view."""
    first, number = positions[0], len(positions)
    if list(positions) == list(range(first, first + number)):
        return values if number == len(values) else values[first : first + number]
    return values[torch.tensor(positions, device=values.device)]


def pair_with_teachers(
    student: Tensor, rows: tuple[int, ...] | None, teachers: Sequence[Taught]
) -> tuple[Tensor, Tensor, tuple[int, ...] | None] | None:
    """Return the images of a copy that have a teacher: student, teacher, and rows (None for all).

    The teacher of an image is the last copy before that has the image. Returns None if no image has one.

    Args:
        student: what the copy gives to compare, ``(n, ...)``.
        rows: positions of its images in the batch; None for all.
        teachers: what the copies before it gave, in their order.
    """
    if teachers and teachers[-1].rows == rows:
        return student, teachers[-1].values, rows
    left = {row: place for place, row in enumerate(_rows(student, rows))}
    own: list[Tensor] = []
    values: list[Tensor] = []
    taught: list[int] = []
    for teacher in reversed(teachers):
        places = {row: place for place, row in enumerate(_rows(teacher.values, teacher.rows))}
        found = [row for row in left if row in places]
        if found:
            own.append(select(student, [left.pop(row) for row in found]))
            values.append(select(teacher.values, [places[row] for row in found]))
            taught += found
    if not taught:
        return None
    if len(own) == 1:
        return own[0], values[0], tuple(taught)
    return torch.cat(own), torch.cat(values), tuple(taught)


def add_teacher(
    teachers: Sequence[Taught], values: Tensor, rows: tuple[int, ...] | None
) -> tuple[Taught, ...]:
    """Return the teachers of the copies after one, without those that are no image's teacher any more.

    Args:
        teachers: what the copies before it gave.
        values: what the copy gives to compare, without gradient.
        rows: positions of its images in the batch; None for all.
    """
    new = set(_rows(values, rows))
    kept = [one for one in teachers if rows is not None and not new.issuperset(_rows(one.values, one.rows))]
    return (*kept, Taught(values, rows))


def _rows(values: Tensor, rows: tuple[int, ...] | None) -> Sequence[int]:
    return range(len(values)) if rows is None else rows
