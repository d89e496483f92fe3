"""FCOS on ResFormer-S-MR, with the backbone, pyramid and recipe of Mask R-CNN.

    bash tools/dist_train.sh configs/detection/resformer-small_mr-224-160-128_fcos_8xb2-36e_coco.py 8

No published figure. Not trained here.
"""

_base_ = [
    '_base_/models/fcos_resformer-small.py',
    '_base_/boxes.py',
    '_base_/schedules/36e.py',
    '_base_/runtime.py',
]

pretrained = 'checkpoints/resformer-small_mr-224-160-128.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
