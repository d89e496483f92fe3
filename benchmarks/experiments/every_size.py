"""Accuracy from 16 to 320 pixels, of models that differ in what is to help at sizes that were not trained.

Figures and their reading: docs/every_size.md.
"""

from __future__ import annotations

from typing import Any

from experiment import CHECKPOINT, Experiment, Expression, Schedule, Variant

CONFIGS = 'configs/classification'
ON_64 = f'{CONFIGS}/resformer-mini_mr-64-48-32_1xb64-30e_mini.py'
ON_96 = f'{CONFIGS}/resformer-mini_mr-96-64-32_1xb64-30e_mini.py'
DRAWN = f'{CONFIGS}/resformer-mini_mr-drawn-96-32_1xb64-30e_mini.py'
SINGLE = f'{CONFIGS}/resformer-mini_64_1xb64-30e_mini.py'
MERGER = f'{CONFIGS}/resformer-mini_merger_mr-96-64-32_1xb64-30e_mini.py'
LEARNED_SCALE = f'{CONFIGS}/resformer-mini_temperature_mr-64-48-32_1xb64-30e_mini.py'
WINDOWS = f'{CONFIGS}/resformer-mini_windows_mr-64-48-32_1xb64-30e_mini.py'
FLEXIBLE = f'{CONFIGS}/resformer-mini_flexible_mr-64-48-32_1xb64-30e_mini.py'
MSPE = f'{CONFIGS}/resformer-mini_mspe_mr-48-32-16_1xb64-5e_mini.py'
GRIDS = (8, 6, 4)
"""Sides in tokens of the training grids on 64, 48 and 32 pixels, of patches of 8 pixels."""
FROM_64, FROM_96, DRAWN_SIZES = (64, 48, 32), (96, 64, 32), (96, 64, 48, 32)
LOW = dict(mean=-0.5, std=1.0)
"""Weights of drawn sizes that prefer small ones."""


def on_64(title: str, **backbone: Any) -> Variant:
    """Return a model that is trained on 64, 48 and 32 pixels, with settings of its backbone."""
    return Variant(title, ON_64, dict(model=dict(backbone=backbone)), FROM_64)


def scaled(title: str, weights_of: str, config: str, trained_on: tuple[int, ...], **scale: Any) -> Variant:
    """Return a trained model that is tested with a temperature of the attention."""
    # Those of the training: patches of 8 pixels, and the class token.
    tokens = [(resolution // 8) ** 2 + 1 for resolution in trained_on]
    settings = dict(model=dict(backbone=dict(attention_scale=dict(tokens=tokens, **scale))))
    return Variant(title, config, settings, trained_on, weights_of)


def with_tokens(title: str, weights_of: str, config: str) -> Variant:
    """Return a trained model that is tested with about the tokens of 64 pixels at every size."""
    settings = dict(type='FlexiblePatchEmbed', patch_sizes=None, tokens=64)
    return Variant(title, config, dict(model=dict(backbone=dict(patch_embed=settings))), FROM_64, weights_of)


def with_kernels(title: str, starts_from: str, *sides: int) -> Variant:
    """Return a trained model with further patch kernels, which are trained with all other weights frozen."""
    convert = ('tools/model_converters/add_patch_kernels.py', '{config}', CHECKPOINT, '{out}', '--kernels')
    return Variant(
        title,
        MSPE,
        dict(load_from=CHECKPOINT),
        trained_on=(*FROM_64, 16),
        starts_from=starts_from,
        convert=(*convert, *map(str, sides)),
        schedule=Schedule(
            5, fields=('train_cfg.max_epochs', 'param_scheduler.0.end', 'param_scheduler.0.T_max')
        ),
    )


def resized(title: str, weights_of: str, config: str, size: int) -> Variant:
    """Return a trained model that is tested on images of every size after resizing them to one size."""
    to_size = dict(type='Resize', scale=size, backend='pillow', interpolation='bicubic')
    pipeline = Expression(f'[_base_.load, _base_.crop, {to_size}, _base_.pack]')
    settings = dict(test_dataloader=dict(dataset=dict(pipeline=pipeline)))
    return Variant(title, config, settings, FROM_64, weights_of)


def with_lpe(**position: Any) -> dict[str, Any]:
    """Return the config of LPE together with another position module."""
    return dict(type='CombinedPosition', parts=[dict(type='LocalPositionEmbedding'), position])


def combined(title: str, weights_of: str | None = None, **patches: Any) -> Variant:
    """Return a model of drawn sizes, with a token merger and flexible patches.

    Args:
        title: name in the table.
        weights_of: see :class:`Variant`.
        **patches: what differs in its patch embedding.
    """
    embedding = dict(type='FlexiblePatchEmbed', patch_sizes=[4, 6, 8, 12], **patches)
    settings = dict(
        model=dict(
            backbone=dict(token_merger=dict(type='TokenMerger', grid=GRIDS[0]), patch_embed=embedding)
        ),
        custom_hooks=[dict(type='resformer_mm.DrawPatchSizesHook')],
        train_dataloader=dict(batch_sampler=dict(weights=LOW)),
    )
    return Variant(title, DRAWN, settings, DRAWN_SIZES, weights_of)


AUGMENTED = dict(type='AugmentedPositionEmbedding', augmentation=dict(rescale=2.0, jitter=0.5))

EXPERIMENT = Experiment(
    name='every_size',
    resolutions=(16, 24, 32, 48, 64, 96, 128, 192, 256, 320),
    thinned={192: 4, 256: 4, 320: 4},
    variants={
        'plain': on_64('GPE and LPE'),
        'plain-96': Variant('GPE and LPE', ON_96, trained_on=FROM_96),
        'single': Variant('GPE and LPE', SINGLE, trained_on=(64,)),
        'drawn': Variant('drawn sizes', DRAWN, trained_on=DRAWN_SIZES),
        'drawn-low': Variant(
            'drawn sizes, small ones more often',
            DRAWN,
            dict(train_dataloader=dict(batch_sampler=dict(weights=LOW))),
            trained_on=DRAWN_SIZES,
        ),
        # The number of tokens.
        'merger': Variant('token merger', MERGER, trained_on=FROM_96),
        'plain+temperature': scaled('log-scaled attention', 'plain', ON_64, FROM_64, type='LogTokensScale'),
        'plain+entropy': scaled(
            'entropy-scaled attention', 'plain', ON_64, FROM_64, type='LogTokensScale', exponent=0.5
        ),
        'plain-96+temperature': scaled(
            'log-scaled attention', 'plain-96', ON_96, FROM_96, type='LogTokensScale'
        ),
        'plain-96+entropy': scaled(
            'entropy-scaled attention', 'plain-96', ON_96, FROM_96, type='LogTokensScale', exponent=0.5
        ),
        'learned-temperature': Variant('learned temperature', LEARNED_SCALE, trained_on=FROM_64),
        'plain+windows': Variant('windows', WINDOWS, trained_on=FROM_64, weights_of='plain'),
        # The size of the patches.
        'plain+tokens': with_tokens('64 tokens by resized kernels', 'plain', ON_64),
        'mspe': with_kernels('64 tokens by kernels of 8, 6, 4 and 2 pixels', 'plain', 6, 4, 2),
        'flexible': Variant('patches of 4 to 12 pixels', FLEXIBLE, trained_on=FROM_64),
        'flexible+tokens': with_tokens('patches of 4 to 12 pixels, 64 tokens', 'flexible', FLEXIBLE),
        # The size of the image.
        'plain+resized': resized('images resized to 64 pixels', 'plain', ON_64, 64),
        # Together.
        'combined': combined('drawn sizes, token merger, patches of 4 to 12 pixels'),
        'combined+tokens': combined(
            'drawn sizes, token merger, 64 tokens by resized kernels', 'combined', tokens=64
        ),
        # At the input.
        'augmented': on_64('augmented GPE', global_position=AUGMENTED),
        'table': on_64('APE', global_position=dict(type='LearnedPositionEmbedding', grid_size=GRIDS[0])),
        'tables': on_64('APE*', global_position=dict(type='PositionTables', grid_sizes=GRIDS)),
        'fuzzy': on_64(
            'fuzzy table', global_position=dict(type='FuzzyPositionEmbedding', grid_size=GRIDS[0])
        ),
        # Inside attention.
        'rpb': on_64('LPE and RPB', local_position=with_lpe(type='RelativePositionBias', grid_size=GRIDS[0])),
        'cpb': on_64(
            'LPE and CPB', local_position=with_lpe(type='ContinuousPositionBias', grid_size=GRIDS[0])
        ),
        'rope': on_64('LPE and RoPE', local_position=with_lpe(type='AxialRotaryPosition')),
        'rope-normalised': on_64(
            'LPE and normalised RoPE',
            local_position=with_lpe(type='AxialRotaryPosition', coordinates='normalised'),
        ),
        'rope-mixed': on_64('LPE and RoPE-Mixed', local_position=with_lpe(type='MixedRotaryPosition')),
        'alibi': on_64('LPE and 2D-ALiBi', local_position=with_lpe(type='DistanceBias')),
        'lookhere': on_64('LPE and LookHere', local_position=with_lpe(type='DirectionalBias')),
    },
)
