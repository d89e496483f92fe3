"""Blood cells with a small RetinaNet: one stage, anchors.

    python tools/train.py configs/detection/resformer-mini_mr-64-48-32_retinanet_1xb8-12e_bccd.py

`_base_/blood-cells.py` says where the data and the initial weights are. Measured figures: docs/experiments.md.
"""

_base_ = '_base_/blood-cells.py'

backbone, neck = _base_.model.backbone, _base_.model.neck
model = dict(
    _delete_=True,
    _scope_='mmdet',
    type='resformer_mm.RetinaNet',
    data_preprocessor=_base_.model.data_preprocessor,
    backbone=backbone,
    neck=neck,
    bbox_head=dict(
        type='RetinaHead',
        num_classes=_base_.num_classes,
        in_channels=_base_.channels,
        feat_channels=_base_.channels,
        stacked_convs=2,
        # As those of the Faster R-CNN.
        anchor_generator=dict(
            type='AnchorGenerator', scales=[2, 4], ratios=[0.5, 1.0, 2.0], strides=_base_.strides
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1
        ),
        sampler=dict(type='PseudoSampler'),  # the focal loss takes every anchor
        allowed_border=-1,
        pos_weight=-1,
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.5),
        max_per_img=100,
    ),
)
