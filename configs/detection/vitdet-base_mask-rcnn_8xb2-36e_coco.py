"""Mask R-CNN on a plain ViT-B, the baseline of the paper, in the structure of ResFormer-B.

    bash tools/dist_train.sh configs/detection/vitdet-base_mask-rcnn_8xb2-36e_coco.py 8

A learned position table, resized to every image, in place of GPE, and no LPE. The published figures, box AP / mask AP
46.3 / 41.6 with 121.3 M parameters, are those of ViTDet-B with another neck and other heads (docs/model_zoo.md); this
one has 115.5 M. Not trained here. `pretrained` is DeiT-B as timm publishes it.
"""

_base_ = 'resformer-base_mr-224-160-128_mask-rcnn_8xb2-36e_coco.py'

pretrained = 'checkpoints/deit_base_patch16_224.pth'
model = dict(backbone=dict(_base_.learned_position, init_cfg=dict(checkpoint=pretrained)))
