"""AP of a small Mask R-CNN at half, once and twice the size of its training images, on generated pictures.

The backbone starts from the variant `plain` of every_size. Figures: docs/every_size.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiment import CHECKPOINT, Experiment, Metric, Schedule, Variant
from image_data import GeneratedData

CONFIG = 'configs/detection/resformer-mini_mr-64-48-32_mask-rcnn_1xb8-8e_mini.py'


def mask_rcnn(
    title: str, weights_of: str | None = None, neck: Mapping[str, Any] | None = None, **backbone: Any
) -> Variant:
    """Return a model that is trained on short sides up to 128 pixels, with settings of backbone and neck."""
    model = dict(backbone=dict(init_cfg=dict(checkpoint=CHECKPOINT), **backbone), neck=dict(neck or {}))
    return Variant(title, CONFIG, dict(model=model), (128,), weights_of, starts_from='every_size/plain')


# The config has windows of 8 x 8 tokens in these blocks.
WHOLE_MAP = dict(window_size=0, window_block_indices=())

EXPERIMENT = Experiment(
    name='dense_detection',
    resolutions=(64, 128, 256),
    schedule=Schedule(8),
    metrics={'box_ap': Metric('coco/bbox_mAP', 100), 'mask_ap': Metric('coco/segm_mAP', 100)},
    data=GeneratedData(
        task='detection',
        variable='MINI_DETECTION_ROOT',
        train='data/mini_detection',
        test='data/mini_detection_256',
        test_options=dict(size=256),
        test_images=200,
    ),
    dtype='float32',
    variants={
        'plain': mask_rcnn('whole map in every block', **WHOLE_MAP),
        # From a map of stride 16, the pyramid makes the levels of the config: 8, 16 and 32.
        'merged': mask_rcnn(
            '2 x 2 tokens merged after two blocks',
            neck=dict(scale_factors=(2, 1)),
            token_merger=dict(type='StridedTokenMerger', index=2),
            **WHOLE_MAP,
        ),
        'windows': mask_rcnn('windows of 8 x 8 in 4 of 6 blocks'),
        'plain+windows': mask_rcnn('windows in the test alone', 'plain'),
    },
)
