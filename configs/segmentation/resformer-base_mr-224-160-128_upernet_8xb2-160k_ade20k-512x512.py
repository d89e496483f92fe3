"""UPerNet on ResFormer-B-MR, 8 GPUs of 2 crops each, 160,000 iterations.

    bash tools/dist_train.sh configs/segmentation/resformer-base_mr-224-160-128_upernet_8xb2-160k_ade20k-512x512.py 8

Published mIoU, single scale / multi-scale and flip: 48.30 / 49.28, 119.8 M parameters. Not trained here.
"""

_base_ = [
    '_base_/models/upernet_resformer-base.py',
    '_base_/schedules/160k.py',
    '_base_/runtime.py',
]

pretrained = 'checkpoints/resformer-base_mr-224-160-128.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
