"""UPerNet on DeiT-S, the baseline of the paper.

    bash tools/dist_train.sh configs/segmentation/deit-small_upernet_8xb2-80k_ade20k-512x512.py 8

Published mIoU, single scale / multi-scale and flip: 42.96 / 43.79, 52.1 M parameters (mmsegmentation's model zoo,
vit_deit-s16_upernet_8xb2-80k). Not trained here. `pretrained` is DeiT-S as timm publishes it.
"""

_base_ = 'resformer-small_mr-224-160-128_upernet_8xb2-80k_ade20k-512x512.py'

pretrained = 'checkpoints/deit_small_patch16_224.pth'
model = dict(backbone=dict(_base_.learned_position, init_cfg=dict(checkpoint=pretrained)))
