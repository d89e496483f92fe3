"""mIoU where a pixel covers more ground than in the training: generated pictures shrunk by 1 to 4 times.

A test at 64 pixels is one of pictures whose short side is half of the 128 pixels of the training. They are
tested as they are, and enlarged to 128 pixels again; the labels have the size of the file. Training pictures
are scaled by 0.5 to 2 in both variants. The backbones start from the variant `plain` of every_size with the
same seed. Figures: docs/experiments.md.
"""

from __future__ import annotations

from dense_segmentation import EXPERIMENT as DENSE
from experiment import CHECKPOINT, Experiment, Variant

CONFIG = 'configs/segmentation/resformer-mini_upernet-mr-128-96-64_1xb8-900_mini.py'
SIDE = 128


def enlarged(variant: Variant, weights_of: str) -> Variant:
    """Return a trained model that is tested on shrunk pictures which are enlarged to 128 pixels again."""
    scale = (4 * SIDE, SIDE)
    pipeline = [
        dict(type='resformer_mm.LoadImage'),
        dict(type='Resize', scale=scale, keep_ratio=True),
        # Of fixed size: a test at another resolution changes the sizes of `Resize` alone.
        dict(type='RandomResize', scale=scale, ratio_range=(1.0, 1.0), keep_ratio=True),
        dict(type='resformer_mm.LoadSegMap'),
        dict(type='PackSegInputs'),
    ]
    settings = {**variant.settings, 'test_dataloader': dict(dataset=dict(pipeline=pipeline))}
    return Variant(f'{variant.title}; enlarged', variant.config, settings, variant.trained_on, weights_of)


TRAINED = {
    'single': DENSE.shared('plain', 'trained on 128'),
    'mr': Variant(
        'trained on 128, 96, 64',
        CONFIG,
        dict(model=dict(backbone=dict(init_cfg=dict(checkpoint=CHECKPOINT)))),
        (128, 96, 64),
        starts_from='every_size/plain',
    ),
}

EXPERIMENT = Experiment(
    name='change_of_scale_segmentation',
    resolutions=(128, 96, 64, 48, 32),
    schedule=DENSE.schedule,
    metrics=DENSE.metrics,
    data=DENSE.data,
    dtype=DENSE.dtype,
    variants={
        **TRAINED,
        **{f'{name}+enlarged': enlarged(one, one.same_as or name) for name, one in TRAINED.items()},
    },
)
