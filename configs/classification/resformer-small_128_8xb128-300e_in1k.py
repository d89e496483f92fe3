"""ResFormer-S on 128 alone, on 8 GPUs, 128 images each.

    bash tools/dist_train.sh configs/classification/resformer-small_128_8xb128-300e_in1k.py 8

Published ImageNet-1k top-1 at 96/128/160/224/288/384/512/640:
70.25/75.47/77.06/76.89/74.78/69.55/58.34/45.25. Not trained here.
Learning rate, warm-up and epochs: `_base_/schedules/300e.py`. ImageNet-1k in `data/imagenet` (docs/data/imagenet.md).
"""

_base_ = [
    '_base_/models/resformer-small.py',
    '_base_/resolutions/128.py',
    '_base_/schedules/300e.py',
    '_base_/runtime.py',
]
