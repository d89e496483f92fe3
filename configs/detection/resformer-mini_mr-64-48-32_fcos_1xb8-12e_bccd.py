"""Blood cells: a small FCOS for two CPU cores, on images of three sizes, from a multi-resolution classifier.

    python tools/train.py configs/detection/resformer-mini_mr-64-48-32_fcos_1xb8-12e_bccd.py

`_base_/blood-cells.py` says where the data and the initial weights are. Measured figures: docs/experiments.md.
"""

_base_ = '_base_/blood-cells.py'

backbone, neck = _base_.model.backbone, _base_.model.neck
model = dict(
    _delete_=True,
    _scope_='mmdet',
    type='resformer_mm.FCOS',
    data_preprocessor=_base_.model.data_preprocessor,
    backbone=backbone,
    neck=neck,
    bbox_head=dict(
        type='FCOSHead',
        num_classes=_base_.num_classes,
        in_channels=_base_.channels,
        feat_channels=_base_.channels,
        stacked_convs=2,
        strides=_base_.strides,
        # Longer sides in pixels that the maps predict: platelets, red cells, white cells.
        regress_ranges=((-1, 24), (24, 64), (64, 1e8)),
        norm_cfg=dict(type='resformer_mm.LayerNorm2d', eps=1e-6),
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=100,
    ),
)
