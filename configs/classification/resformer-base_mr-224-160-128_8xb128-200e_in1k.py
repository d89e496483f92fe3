"""ResFormer-B-MR on 8 GPUs, 128 images each.

    bash tools/dist_train.sh configs/classification/resformer-base_mr-224-160-128_8xb128-200e_in1k.py 8

Published ImageNet-1k top-1 at 96/128/160/224/288/384/512/640:
75.86/79.74/81.52/82.72/83.02/83.29/82.63/81.72. Not trained here.
Learning rate, warm-up and epochs: `_base_/schedules/200e.py`. ImageNet-1k in `data/imagenet` (docs/data/imagenet.md).
"""

_base_ = [
    '_base_/models/resformer-base.py',
    '_base_/resolutions/mr-224-160-128.py',
    '_base_/schedules/200e.py',
    '_base_/runtime.py',
]
