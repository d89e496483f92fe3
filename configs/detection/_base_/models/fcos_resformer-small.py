"""FCOS on ResFormer-S: five maps of 256 channels, strides 8 to 128, without anchors."""

_base_ = 'resformer-small_pyramid.py'

model = dict(
    type='resformer_mm.FCOS',
    neck=dict(scale_factors=(2, 1, 0.5)),
    bbox_head=dict(
        type='FCOSHead',
        num_classes=80,
        in_channels=256,
        feat_channels=256,
        stacked_convs=4,
        strides=[8, 16, 32, 64, 128],
        # A group norm, FCOS's own, would average over the padding of a batch.
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
