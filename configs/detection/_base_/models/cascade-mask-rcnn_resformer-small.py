"""Cascade Mask R-CNN on ResFormer-S: three box heads, each trained on the boxes of the one before."""

_base_ = 'mask-rcnn_resformer-small.py'

model = dict(
    type='resformer_mm.CascadeRCNN',
    roi_head=dict(
        type='CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[
            dict(
                type='Shared4Conv1FCBBoxHead',
                in_channels=_base_.channels,
                conv_out_channels=_base_.channels,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=_base_.num_classes,
                norm_cfg=_base_.norm_cfg,
                bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=stds),
                reg_class_agnostic=True,
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
            )
            for stds in (
                [0.1, 0.1, 0.2, 0.2],
                [0.05, 0.05, 0.1, 0.1],
                [0.033, 0.033, 0.067, 0.067],
            )
        ],
    ),
    train_cfg=dict(
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=iou,
                    neg_iou_thr=iou,
                    min_pos_iou=iou,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
                sampler=dict(
                    type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True
                ),
                mask_size=28,
                pos_weight=-1,
            )
            for iou in (0.5, 0.6, 0.7)
        ],
    ),
)
