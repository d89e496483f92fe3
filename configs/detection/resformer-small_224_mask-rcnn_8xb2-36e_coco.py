"""Mask R-CNN on ResFormer-S trained on 224 alone, for comparison with the multi-resolution one.

    bash tools/dist_train.sh configs/detection/resformer-small_224_mask-rcnn_8xb2-36e_coco.py 8

No published figure. Not trained here.
"""

_base_ = 'resformer-small_mr-224-160-128_mask-rcnn_8xb2-36e_coco.py'

pretrained = 'checkpoints/resformer-small_224.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
