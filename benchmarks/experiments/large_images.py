"""Costs of the base model from 224 to 2240 pixels, which costs.py measures with random weights.

Figures and their reading: docs/every_size.md.
"""

from __future__ import annotations

from typing import Any

from experiment import Experiment, Variant

BASE = 'configs/classification/resformer-base_mr-224-160-128_8xb128-200e_in1k.py'
TRAINED_ON = (224, 160, 128)


def base(title: str, **backbone: Any) -> Variant:
    """Return the base model with settings of its backbone."""
    return Variant(title, BASE, dict(model=dict(backbone=backbone)), TRAINED_ON)


# A map of 224 pixels has 14 x 14 tokens. Every third block attends to the whole map.
MERGER = dict(type='TokenMerger', grid=14)
WINDOWS = dict(window_size=14, window_block_indices=tuple(index for index in range(12) if index % 3 != 2))

EXPERIMENT = Experiment(
    name='large_images',
    resolutions=(224, 448, 896, 1120, 2240),
    seeds=(),
    variants={
        'plain': base('GPE and LPE'),
        'merger': base('token merger to 14 x 14', token_merger=MERGER),
        'windows': base('windows of 14 x 14 in 8 of 12 blocks', **WINDOWS),
    },
)
