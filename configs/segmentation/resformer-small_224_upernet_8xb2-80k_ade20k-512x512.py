"""UPerNet on ResFormer-S trained on 224 alone, 8 GPUs of 2 crops each, 80,000 iterations.

    bash tools/dist_train.sh configs/segmentation/resformer-small_224_upernet_8xb2-80k_ade20k-512x512.py 8

Published mIoU, single scale / multi-scale and flip: 45.47 / 46.61. Not trained here.
"""

_base_ = 'resformer-small_mr-224-160-128_upernet_8xb2-80k_ade20k-512x512.py'

pretrained = 'checkpoints/resformer-small_224.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
