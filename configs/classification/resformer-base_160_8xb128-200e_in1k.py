"""ResFormer-B on 160 alone, on 8 GPUs, 128 images each: the image model of the video config of that resolution.

    bash tools/dist_train.sh configs/classification/resformer-base_160_8xb128-200e_in1k.py 8

No published ImageNet figure. Not trained here.
Learning rate, warm-up and epochs: `_base_/schedules/200e.py`. ImageNet-1k in `data/imagenet` (docs/data/imagenet.md).
"""

_base_ = [
    '_base_/models/resformer-base.py',
    '_base_/resolutions/160.py',
    '_base_/schedules/200e.py',
    '_base_/runtime.py',
]
