"""Accuracy by the number of training resolutions, and by the gap between them.

Figures and their reading: docs/experiments.md.
"""

from __future__ import annotations

from every_size import EXPERIMENT as EVERY_SIZE
from every_size import ON_64
from experiment import Experiment, Expression, Variant


def trained_on(*resolutions: int, title: str | None = None) -> Variant:
    """Return the small ResFormer on other resolutions, high to low."""
    copies = f'dict(_base_.copies, resolutions={list(resolutions)})'
    pipeline = Expression(f'[_base_.open_image, {copies}, _base_.pack]')
    settings = dict(train_dataloader=dict(dataset=dict(pipeline=pipeline)))
    return Variant(title or ', '.join(map(str, resolutions)), ON_64, settings, resolutions)


EXPERIMENT = Experiment(
    name='resolutions',
    resolutions=(16, 24, 32, 48, 64, 96, 128),
    variants={
        # Their number, from 64 pixels down to 32.
        'one': EVERY_SIZE.shared('single', '64'),
        'two': trained_on(64, 32),
        'three': EVERY_SIZE.shared('plain', '64, 48, 32'),
        'five': trained_on(64, 56, 48, 40, 32),
        # The gap between three.
        'gap-8': trained_on(64, 56, 48),
        'gap-24': trained_on(64, 40, 16),
    },
)
