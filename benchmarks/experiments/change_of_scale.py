"""Accuracy where a pixel covers more ground than in the training: images shrunk by 1 to 4 times.

A test at 32 pixels is one of images at half the 64 pixels of the training. They are tested as they are, and
enlarged to 64 pixels again. `single` and `plain` are trained as those of every_size: with `--work-dir
work_dirs/every_size`, what is trained there is not trained again. Figures: docs/experiments.md.
"""

from __future__ import annotations

from every_size import ON_64
from every_size import SINGLE as ON_64_ALONE
from experiment import Experiment, Variant

SIDE = 64
"""Side of the training images in pixels, the largest of several."""
SHRUNK = (48, 32, 16)
RESIZE = dict(type='Resize', scale=SIDE, backend='pillow', interpolation='bicubic')
PACK = dict(type='PackInputs')


def rescaling() -> dict:
    """Return settings of a training in which half of the images are shrunk and enlarged again."""
    rescaled = [[dict(RESIZE, scale=side), RESIZE] for side in SHRUNK]
    unchanged: list[list[dict]] = [[] for _ in rescaled]
    transforms = [
        dict(type='resformer_mm.RandomResizedCrop', scale='{resolution}', crop_ratio_range=(0.3, 1.0)),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        dict(type='RandomChoice', transforms=[*rescaled, *unchanged]),
        dict(type='resformer_mm.ColorJitter', brightness=0.2, contrast=0.2),
    ]
    copies = dict(type='resformer_mm.MultiResolution', resolutions=[SIDE], transforms=transforms)
    pipeline = [dict(type='resformer_mm.OpenImage'), copies, PACK]
    return dict(train_dataloader=dict(dataset=dict(pipeline=pipeline)))


TRAINED = {
    'single': Variant('trained on 64', ON_64_ALONE, trained_on=(64,)),
    'plain': Variant('trained on 64, 48, 32', ON_64, trained_on=(64, 48, 32)),
    'rescaled': Variant('trained on 64, half of the images enlarged', ON_64_ALONE, rescaling(), (64,)),
}


def enlarged(name: str) -> Variant:
    """Return a trained model that is tested on shrunk images which are enlarged to 64 pixels again."""
    variant = TRAINED[name]
    # A test at another resolution sets the fields `resolution`, and then no other sizes.
    shrink = dict(type='resformer_mm.ResizeCenterCrop', resolution=SIDE)
    pipeline = [dict(type='resformer_mm.LoadImage'), shrink, RESIZE, PACK]
    settings = {**variant.settings, 'test_dataloader': dict(dataset=dict(pipeline=pipeline))}
    return Variant(f'{variant.title}; enlarged', variant.config, settings, variant.trained_on, name)


EXPERIMENT = Experiment(
    name='change_of_scale',
    resolutions=(64, 48, 32, 24, 16),
    variants={**TRAINED, **{f'{name}+enlarged': enlarged(name) for name in TRAINED}},
)
