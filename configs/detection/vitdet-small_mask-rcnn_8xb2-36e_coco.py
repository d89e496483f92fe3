"""Mask R-CNN on a plain ViT-S, the baseline of the paper, in the structure of ResFormer-S.

    bash tools/dist_train.sh configs/detection/vitdet-small_mask-rcnn_8xb2-36e_coco.py 8

A learned position table, resized to every image, in place of GPE, and no LPE. The published figures, box AP / mask AP
44.5 / 40.1 with 45.7 M parameters, are those of ViTDet-S with another neck and other heads (docs/model_zoo.md); this
one has 45.6 M. Not trained here. `pretrained` is DeiT-S as timm publishes it.
"""

_base_ = 'resformer-small_mr-224-160-128_mask-rcnn_8xb2-36e_coco.py'

pretrained = 'checkpoints/deit_small_patch16_224.pth'
model = dict(backbone=dict(_base_.learned_position, init_cfg=dict(checkpoint=pretrained)))
