"""Models that are compared over all test sizes: each a small config and what differs from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CONFIGS = 'configs/classification'
MINI = f'{CONFIGS}/resformer-mini_mr-64-48-32_1xb64-30e_mini.py'
MINI_96 = f'{CONFIGS}/resformer-mini_mr-96-64-32_1xb64-30e_mini.py'


@dataclass(frozen=True)
class Variant:
    """A model of the comparison.

    Attributes:
        title: name in the table.
        config: config file, relative to the project.
        settings: what differs from the config, in training and test.
        trained_on: resolutions of the training, which the table marks.
        weights_of: name of the variant whose weights are tested; by default the variant is trained itself.
    """

    title: str
    config: str = MINI
    settings: Mapping[str, Any] = field(default_factory=dict)
    trained_on: tuple[int, ...] = (64, 48, 32)
    weights_of: str | None = None

    def config_text(self, root: str) -> str:
        """Return the text of the config of the variant.

        Args:
            root: folder of the project.
        """
        lines = [f'"""{self.title}."""', '', f'_base_ = {f"{root}/{self.config}"!r}', '']
        lines += [f'{name} = {value!r}' for name, value in self.settings.items()]
        return '\n'.join(lines) + '\n'


def backbone(**settings: Any) -> dict[str, Any]:
    """Return settings of the backbone alone."""
    return dict(model=dict(backbone=settings))


def with_lpe(**position: Any) -> dict[str, Any]:
    """Return settings of a backbone whose attention has LPE and another position module."""
    parts = [dict(type='LocalPositionEmbedding'), position]
    return backbone(local_position=dict(type='CombinedPosition', parts=parts))


GRID = 64 // 8
"""Side in tokens of the largest training grid."""

VARIANTS: dict[str, Variant] = {
    'plain': Variant('GPE and LPE'),
    'plain-96': Variant('GPE and LPE', MINI_96, trained_on=(96, 64, 32)),
    'single': Variant('GPE and LPE', f'{CONFIGS}/resformer-mini_64_1xb64-30e_mini.py', trained_on=(64,)),
    # At the input.
    'augmented': Variant(
        'augmented GPE',
        settings=backbone(
            global_position=dict(
                type='AugmentedPositionEmbedding', augmentation=dict(rescale=2.0, jitter=0.5)
            )
        ),
    ),
    'fuzzy': Variant(
        'fuzzy table',
        settings=backbone(global_position=dict(type='FuzzyPositionEmbedding', grid_size=GRID)),
    ),
    'table': Variant(
        'APE', settings=backbone(global_position=dict(type='LearnedPositionEmbedding', grid_size=GRID))
    ),
    'tables': Variant(
        'APE*', settings=backbone(global_position=dict(type='PositionTables', grid_sizes=(8, 6, 4)))
    ),
    # Inside attention, with LPE.
    'rpb': Variant('LPE and RPB', settings=with_lpe(type='RelativePositionBias', grid_size=GRID)),
    'cpb': Variant('LPE and CPB', settings=with_lpe(type='ContinuousPositionBias', grid_size=GRID)),
    'rope': Variant('LPE and RoPE', settings=with_lpe(type='AxialRotaryPosition')),
    'rope-normalised': Variant(
        'LPE and RoPE, normalised',
        settings=with_lpe(type='AxialRotaryPosition', coordinates='normalised'),
    ),
    'rope-mixed': Variant('LPE and RoPE-Mixed', settings=with_lpe(type='MixedRotaryPosition')),
    'alibi': Variant('LPE and 2D-ALiBi', settings=with_lpe(type='DistanceBias')),
    'lookhere': Variant('LPE and LookHere', settings=with_lpe(type='DirectionalBias')),
}
