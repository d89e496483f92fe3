"""ResFormer-T-MR on 8 GPUs, 128 images each.

    bash tools/dist_train.sh configs/classification/resformer-tiny_mr-224-160-128_8xb128-300e_in1k.py 8

Published ImageNet-1k top-1 at 96/128/160/224/288/384/512/640:
61.40/67.78/71.09/73.85/74.85/75.04/73.77/71.65. Not trained here.
Learning rate, warm-up and epochs: `_base_/schedules/300e.py`. ImageNet-1k in `data/imagenet` (docs/data/imagenet.md).
"""

_base_ = [
    '_base_/models/resformer-tiny.py',
    '_base_/resolutions/mr-224-160-128.py',
    '_base_/schedules/300e.py',
    '_base_/runtime.py',
]
