"""UPerNet on DeiT-B, the baseline of the paper.

    bash tools/dist_train.sh configs/segmentation/deit-base_upernet_8xb2-160k_ade20k-512x512.py 8

Published mIoU, single scale / multi-scale and flip: 45.36 / 47.16, 120.6 M parameters (mmsegmentation's model zoo,
vit_deit-b16_upernet_8xb2-160k). Not trained here. `pretrained` is DeiT-B as timm publishes it.
"""

_base_ = 'resformer-base_mr-224-160-128_upernet_8xb2-160k_ade20k-512x512.py'

pretrained = 'checkpoints/deit_base_patch16_224.pth'
model = dict(backbone=dict(_base_.learned_position, init_cfg=dict(checkpoint=pretrained)))
