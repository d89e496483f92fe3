"""ResFormer-S-MR on 128, 224 and 384, on 8 GPUs, 128 images each.

    bash tools/dist_train.sh configs/classification/resformer-small_mr-384-224-128_8xb128-300e_in1k.py 8

Published ImageNet-1k top-1 at 96/128/160/224/384/512:
72.92/77.84/80.09/82.28/83.70/83.86. Not trained here.
Learning rate, warm-up and epochs: `_base_/schedules/300e.py`. ImageNet-1k in `data/imagenet` (docs/data/imagenet.md).
"""

_base_ = [
    '_base_/models/resformer-small.py',
    '_base_/resolutions/mr-384-224-128.py',
    '_base_/schedules/300e.py',
    '_base_/runtime.py',
]
