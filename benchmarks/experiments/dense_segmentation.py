"""mIoU of a small UPerNet at half, once and twice the size of its training crops, on generated pictures.

The backbone starts from the variant `plain` of every_size. Figures: docs/every_size.md.
"""

from __future__ import annotations

from typing import Any

from experiment import CHECKPOINT, Experiment, Metric, Schedule, Variant
from image_data import GeneratedData

CONFIG = 'configs/segmentation/resformer-mini_upernet_1xb8-900_mini.py'


def upernet(title: str, weights_of: str | None = None, **backbone: Any) -> Variant:
    """Return a model that is trained on crops of 128 pixels, with settings of its backbone."""
    backbone = dict(init_cfg=dict(checkpoint=CHECKPOINT), **backbone)
    settings = dict(model=dict(backbone=backbone))
    return Variant(title, CONFIG, settings, (128,), weights_of, starts_from='every_size/plain')


def merger(index: int) -> dict[str, Any]:
    """Return a merger of 2 x 2 tokens in front of a block."""
    return dict(type='StridedTokenMerger', index=index)


# As long as the side of the classifier's map at 64 pixels, in tokens.
WINDOWS = dict(window_size=8, window_block_indices=(0, 1, 3, 4))

EXPERIMENT = Experiment(
    name='dense_segmentation',
    resolutions=(64, 128, 256),
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
    variants={
        'plain': upernet('whole map in every block'),
        # The head gets maps of the strides 8, 16 and 16 pixels.
        'merged': upernet('2 x 2 tokens merged after two blocks', token_merger=merger(2)),
        # 8, 8 and 16 pixels.
        'merged-late': upernet('2 x 2 tokens merged after four blocks', token_merger=merger(4)),
        'windows': upernet('windows of 8 x 8 in 4 of 6 blocks', **WINDOWS),
        'plain+windows': upernet('windows in the test alone', 'plain', **WINDOWS),
    },
)
