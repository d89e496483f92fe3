"""Recipes of multi-resolution training that cost less than all copies of every image in every step.

What the recipes cost, and accuracy against it: price.py. Figures and their reading: docs/experiments.md.
"""

from __future__ import annotations

from typing import Any

from every_size import EXPERIMENT as EVERY_SIZE
from experiment import Experiment, Schedule, Variant
from strategies import EXPERIMENT as STRATEGIES

CONFIGS = 'configs/classification'
SIZES = (64, 48, 32)
LOW = dict(mean=-0.5, std=1.0)
"""Weights of drawn sizes that prefer small ones, as in NaViT."""


def named(title: str, name: str, **kwargs: Any) -> Variant:
    """Return a recipe that is a config of its own."""
    return Variant(title, f'{CONFIGS}/resformer-mini_{name}_1xb64-30e_mini.py', **kwargs)


def drawn(
    title: str,
    kind: str,
    hook: str | None = None,
    drop: float | None = None,
    trained_on: tuple[int, ...] = SIZES,
    schedule: Schedule | None = None,
    **sampler: Any,
) -> Variant:
    """Return a recipe of the three sizes with a batch sampler.

    Args:
        title: name in the table.
        kind: class of the sampler, without 'BatchSampler'.
        hook: class of the hook that steers it.
        drop: share of the patches of the largest copy that are dropped.
        trained_on: see :class:`Variant`.
        schedule: see :class:`Variant`.
        **sampler: arguments of the sampler.
    """
    settings: dict[str, Any] = {
        'train_dataloader': dict(batch_sampler=dict(type=f'resformer_mm.{kind}BatchSampler', **sampler))
    }
    if hook is not None:
        settings['custom_hooks'] = [dict(type=f'resformer_mm.{hook}')]
    if drop is not None:
        token_drop = dict(type='RandomTokenDrop', rate=drop, min_tokens=50)
        settings['model'] = dict(backbone=dict(token_drop=token_drop))
    config = f'{CONFIGS}/resformer-mini_mr-64-48-32_1xb64-30e_mini.py'
    return Variant(title, config, settings, trained_on, schedule=schedule)


# Tokens of an image with its class token are 65, 37 and 17 of patches of 8 pixels, 119 together.
EPOCHS = 30


def epochs_of(tokens: float, budget: float) -> Schedule:
    """Return the length at which images of some tokens cost what others cost in the usual epochs."""
    return Schedule(round(EPOCHS * budget / tokens))


EXPERIMENT = Experiment(
    name='training_price',
    resolutions=(24, 32, 48, 64, 96, 128),
    schedule=Schedule(EPOCHS),
    variants={
        'mr': EVERY_SIZE.shared('plain', 'all copies in every step'),
        'single': EVERY_SIZE.shared('single', '64 pixels alone'),
        # Between them in cost.
        'few-large': named('64 for 22 of 64 images', 'mr-64-48-32_few-large', trained_on=SIZES),
        'pairs': named('32, and 64 or 48 by image', 'mr-64-48-32_pairs', trained_on=SIZES),
        'staged': named('48 and 32 first, then all', 'mr-64-48-32_staged', trained_on=SIZES),
        'token-drop': named('65 % of the patches at 64 dropped', 'mr-64-48-32_token-drop', trained_on=SIZES),
        'steered': named('two by the gaps of their losses', 'mr-64-48-32_steered', trained_on=SIZES),
        'progress': drawn(
            'two by the progress of their losses', 'MultiResolution', hook='LossProgressHook', number=2
        ),
        'two': drawn('two drawn', 'MultiResolution', number=2),
        'two-low': drawn('two drawn, small ones more often', 'MultiResolution', number=2, weights=LOW),
        'large-and-one': drawn('64, and 48 or 32 by image', 'ImageResolution', keep=[64]),
        'large-and-one+drop': drawn(
            '64 without half of its patches, and 48 or 32 by image', 'ImageResolution', keep=[64], drop=0.5
        ),
        'few-large-and-middle': drawn(
            '64 for 24, 48 for 32 of 64 images', 'MultiResolution', number=3, batch_sizes=[24, 32, 64]
        ),
        # One copy of every image.
        'one': STRATEGIES.shared('per-iteration', 'one drawn'),
        'one-low': drawn('one drawn, small ones more often', 'Resolution', weights=LOW),
        'one-by-image': drawn('one drawn for every image', 'ImageResolution'),
        'one-staged': drawn('one, small to large', 'StagedResolution', mix=0.1),
        # At the tokens of 64 pixels alone.
        'mr@single': named(
            'all copies in every step', 'mr-64-48-32', trained_on=SIZES, schedule=epochs_of(119, 65)
        ),
        'one@single': drawn('one drawn', 'Resolution', schedule=epochs_of(119 / 3, 65)),
        'one-by-image@single': drawn(
            'one drawn for every image', 'ImageResolution', schedule=epochs_of(119 / 3, 65)
        ),
        # At the tokens of all copies.
        'single@mr': named('64 pixels alone', '64', trained_on=(64,), schedule=epochs_of(65, 119)),
        'pairs@mr': named(
            '32, and 64 or 48 by image', 'mr-64-48-32_pairs', trained_on=SIZES, schedule=epochs_of(68, 119)
        ),
        'few-large@mr': named(
            '64 for 22 of 64 images',
            'mr-64-48-32_few-large',
            trained_on=SIZES,
            schedule=epochs_of(65 * 22 / 64 + 37 + 17, 119),
        ),
    },
)
