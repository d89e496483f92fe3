"""mIoU where a pixel covers more ground than in the training: generated pictures shrunk by 1 to 4 times.

A test at 64 pixels is one of pictures whose short side is half of the 128 pixels of the training. They are
tested as they are, and enlarged to 128 pixels again; the labels have the size of the file. Training pictures
are scaled by 0.5 to 2 in both variants. The backbones start from the variant `plain` of every_size, trained
with seed 0. Figures: docs/experiments.md.
"""

from __future__ import annotations

from experiment import Experiment, Metric, Schedule, Variant
from image_data import GeneratedData

CONFIG = 'configs/segmentation/resformer-mini_{}_1xb8-900_mini.py'
WEIGHTS = 'work_dirs/every_size/plain/seed_0_30e/epoch_30.pth'
SIDE = 128
START = dict(backbone=dict(init_cfg=dict(checkpoint=WEIGHTS)))
TRAINED = {
    'single': Variant('trained on 128', CONFIG.format('upernet'), dict(model=START), (128,)),
    'mr': Variant(
        'trained on 128, 96, 64', CONFIG.format('upernet-mr-128-96-64'), dict(model=START), (128, 96, 64)
    ),
}


def enlarged(name: str) -> Variant:
    """Return a trained model that is tested on shrunk pictures which are enlarged to 128 pixels again."""
    variant, scale = TRAINED[name], (4 * SIDE, SIDE)
    pipeline = [
        dict(type='resformer_mm.LoadImage'),
        dict(type='Resize', scale=scale, keep_ratio=True),
        # Of fixed size: a test at another resolution changes the sizes of `Resize` alone.
        dict(type='RandomResize', scale=scale, ratio_range=(1.0, 1.0), keep_ratio=True),
        dict(type='resformer_mm.LoadSegMap'),
        dict(type='PackSegInputs'),
    ]
    settings = {**variant.settings, 'test_dataloader': dict(dataset=dict(pipeline=pipeline))}
    return Variant(f'{variant.title}; enlarged', variant.config, settings, variant.trained_on, name)


EXPERIMENT = Experiment(
    name='change_of_scale_segmentation',
    resolutions=(128, 96, 64, 48, 32),
    schedule=Schedule(900, 'iterations', ('train_cfg.max_iters', 'param_scheduler.1.end')),
    metrics={'miou': Metric('mIoU')},
    data=GeneratedData(
        task='segmentation',
        variable='MINI_SEGMENTATION_ROOT',
        train='data/mini_segmentation',
        test='data/mini_segmentation_256',
        test_options=dict(size=256),
        test_images=200,
    ),
    dtype='float32',
    variants={**TRAINED, **{f'{name}+enlarged': enlarged(name) for name in TRAINED}},
)
