"""Mask R-CNN on ResFormer-S-MR, 8 GPUs of 2 images each, 36 epochs (3x), multi-scale.

    bash tools/dist_train.sh configs/detection/resformer-small_mr-224-160-128_mask-rcnn_8xb2-36e_coco.py 8

Published box AP / mask AP: 46.4 / 40.7, 45.6 M parameters. Not trained here. `pretrained` is a classification
checkpoint of this project or a published one; its class token is left out.
"""

_base_ = [
    '_base_/models/mask-rcnn_resformer-small.py',
    '_base_/coco.py',
    '_base_/schedules/36e.py',
    '_base_/runtime.py',
]

pretrained = 'checkpoints/resformer-small_mr-224-160-128.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
