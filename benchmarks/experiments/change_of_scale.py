"""Accuracy where a pixel covers more ground than in the training: images shrunk by 1 to 4 times.

A test at 32 pixels is one of images at half the 64 pixels of the training. They are tested as they are, and
enlarged to 64 pixels again. Figures: docs/experiments.md.
"""

from __future__ import annotations

from every_size import EXPERIMENT as EVERY_SIZE
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


def enlarged(variant: Variant, weights_of: str) -> Variant:
    """Return a trained model that is tested on shrunk images which are enlarged to 64 pixels again."""
    # A test at another resolution sets the fields `resolution`, and then no other sizes.
    shrink = dict(type='resformer_mm.ResizeCenterCrop', resolution=SIDE)
    pipeline = [dict(type='resformer_mm.LoadImage'), shrink, RESIZE, PACK]
    settings = {**variant.settings, 'test_dataloader': dict(dataset=dict(pipeline=pipeline))}
    return Variant(f'{variant.title}; enlarged', variant.config, settings, variant.trained_on, weights_of)


TRAINED = {
    'single': EVERY_SIZE.shared('single', 'trained on 64'),
    'plain': EVERY_SIZE.shared('plain', 'trained on 64, 48, 32'),
    'rescaled': Variant('trained on 64, half of the images enlarged', ON_64_ALONE, rescaling(), (SIDE,)),
}

EXPERIMENT = Experiment(
    name='change_of_scale',
    resolutions=(64, 48, 32, 24, 16),
    variants={
        **TRAINED,
        **{f'{name}+enlarged': enlarged(one, one.same_as or name) for name, one in TRAINED.items()},
    },
)
