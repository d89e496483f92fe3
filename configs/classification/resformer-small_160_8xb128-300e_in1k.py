"""ResFormer-S on 160 alone, on 8 GPUs, 128 images each.

    bash tools/dist_train.sh configs/classification/resformer-small_160_8xb128-300e_in1k.py 8

Published ImageNet-1k top-1 at 96/128/160/224/288/384/512/640:
67.34/75.05/78.06/79.19/78.25/74.86/66.65/54.77. Not trained here.
Learning rate, warm-up and epochs: `_base_/schedules/300e.py`. ImageNet-1k in `data/imagenet` (docs/data/imagenet.md).
"""

_base_ = [
    '_base_/models/resformer-small.py',
    '_base_/resolutions/160.py',
    '_base_/schedules/300e.py',
    '_base_/runtime.py',
]
