"""The paper's Table 5 in shape: position embeddings alone, and some of them with LPE.

Figures and their reading: docs/experiments.md.
"""

from __future__ import annotations

from typing import Any

from every_size import EXPERIMENT as EVERY_SIZE
from every_size import GRIDS, on_64
from experiment import Experiment, Variant


def at_input(title: str, **position: Any) -> Variant:
    """Return a model with a position embedding at the input alone."""
    return on_64(title, global_position=position, local_position=None)


def in_attention(title: str, **position: Any) -> Variant:
    """Return a model with a position module inside attention alone."""
    return on_64(title, global_position=None, local_position=position)


EXPERIMENT = Experiment(
    name='positions',
    resolutions=(16, 24, 32, 48, 64, 96, 128),
    variants={
        'gpe-lpe': EVERY_SIZE.shared('plain'),
        # Alone.
        'none': on_64('none', global_position=None, local_position=None),
        'ape': at_input('APE', type='LearnedPositionEmbedding', grid_size=GRIDS[0]),
        'apes': at_input('APE*', type='PositionTables', grid_sizes=GRIDS),
        'rpb': in_attention('RPB', type='RelativePositionBias', grid_size=GRIDS[0]),
        'cpb': in_attention('CPB', type='ContinuousPositionBias', grid_size=GRIDS[0]),
        'gpe-without-conv': at_input('GPE without convolution', type='GlobalPositionEmbedding', conv=False),
        'gpe': at_input('GPE', type='GlobalPositionEmbedding'),
        'lpe': in_attention('LPE', type='LocalPositionEmbedding'),
        # With LPE.
        'ape-lpe': EVERY_SIZE.shared('table', 'APE and LPE'),
        'apes-lpe': EVERY_SIZE.shared('tables', 'APE* and LPE'),
    },
)
