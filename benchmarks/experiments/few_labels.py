"""Accuracy with 10 and 20 labelled images per class: alone, with the others as unlabelled, and pre-trained.

All trainings but that with all labels see the same labelled images, which `choice_seed=0` chose. Figures:
docs/experiments.md.
"""

from __future__ import annotations

from typing import Any

from experiment import CHECKPOINT, Experiment, Schedule, Variant

CONFIGS = 'configs/classification'
ALL = f'{CONFIGS}/resformer-mini_mr-64-48-32_1xb64-30e_mini.py'
FEW = f'{CONFIGS}/resformer-mini_10-labels_mr-64-48-32_1xb64-30e_mini.py'
SEMI = f'{CONFIGS}/resformer-mini_semi-10-labels_mr-64-48-32_1xb64-30e_mini.py'
BYOL = 'configs/pretraining/byol_resformer-mini_mr-64-48-32_1xb64-30e_mini.py'
MAE = 'configs/pretraining/mae_resformer-mini_mr-64-48-32_1xb64-60e_mini.py'
SIZES = (64, 48, 32)
EPOCHS = 10
# An epoch has 32 steps; that of a semi-supervised training, one pass over the unlabelled images, has 41.
SEMI_EPOCHS = 8
REPEATS = {10: 20, 20: 10}
"""Labelled images per class -> repetitions that make an epoch of as many steps as one with all labels."""
PRETRAINED = dict(
    backbone=dict(init_cfg=dict(type='resformer_mm.PretrainedResFormer', checkpoint=CHECKPOINT))
)
STARTS = {'byol': 'BYOL', 'mae': 'MAE'}


def few(number: int, start: str | None = None) -> Variant:
    """Return a supervised training on a number of labelled images per class, perhaps pre-trained."""
    data = dict(dataset=dict(times=REPEATS[number], dataset=dict(per_class=number)))
    title = f'{number} labels' if start is None else f'{number} labels, after {STARTS[start]}'
    return _variant(title, FEW, dict(train_dataloader=data), start)


def semi(number: int, start: str | None = None, note: str = '', **unlabelled: Any) -> Variant:
    """Return a semi-supervised training on a number of labelled images per class.

    Args:
        number: number of labelled images per class.
        start: name of the variant that it starts from; None for random weights.
        note: what else differs, for the table.
        **unlabelled: settings of the loss of unlabelled images.
    """
    settings: dict[str, Any] = dict(train_dataloader=dict(dataset=dict(per_class=number)))
    if unlabelled:
        settings['model'] = dict(unlabelled=unlabelled)
    after = '' if start is None else f', after {STARTS[start]}'
    title = f'{number} labels and unlabelled images{note}{after}'
    return _variant(title, SEMI, settings, start, Schedule(SEMI_EPOCHS))


def _variant(
    title: str, config: str, settings: dict[str, Any], start: str | None, schedule: Schedule | None = None
) -> Variant:
    if start is not None:
        settings = dict(settings, model=PRETRAINED)
    return Variant(title, config, settings, SIZES, starts_from=start, schedule=schedule)


EXPERIMENT = Experiment(
    name='few_labels',
    resolutions=(24, 32, 48, 64, 96),
    schedule=Schedule(EPOCHS),
    variants={
        'all': Variant('all 2,000 labels', ALL, trained_on=SIZES),
        '10': few(10),
        '10-semi': semi(10),
        '10-semi-hard': semi(10, note=', classes above 0.8', temperature=0.0, threshold=0.8),
        '10-byol': few(10, 'byol'),
        '10-mae': few(10, 'mae'),
        '10-byol-semi': semi(10, 'byol'),
        '20': few(20),
        '20-semi': semi(20),
        '20-byol': few(20, 'byol'),
        '20-byol-semi': semi(20, 'byol'),
        # Where the others start.
        'byol': Variant('BYOL', BYOL, trained_on=SIZES, schedule=Schedule(12), is_tested=False),
        'mae': Variant('MAE', MAE, trained_on=SIZES, schedule=Schedule(30), is_tested=False),
    },
)
