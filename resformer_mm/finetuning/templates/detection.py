"""Config of a detector."""

DETECTION = """\
_base_ = [
    'resformer_mm::detection/_base_/models/mask-rcnn_resformer-small.py',
    'resformer_mm::detection/_base_/coco.py',
    'resformer_mm::_base_/no_decay.py',
    'resformer_mm::detection/_base_/runtime.py',
]

{data}
{settings}
channels = {channels}
strides = {strides}
# What is found in a crowd region is not learned as background.
assigner = dict(ignore_iof_thr=0.5)
proposals = dict(nms_pre=500, max_per_img=200)
model = dict(
    data_preprocessor=dict(pad_size_divisor={patch}),
    backbone=dict({backbone}),
    neck=dict(
        in_channels={width},
        out_channels=channels,
        scale_factors={scale_factors},
        num_outs=len(strides),
    ),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[{anchor}], strides=strides),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels, featmap_strides=strides[:4]),
        bbox_head=dict(
            type='Shared2FCBBoxHead',
            in_channels=channels,
            fc_out_channels={fc_channels},
            num_classes=len(classes),
        ),
{mask_head}    ),
    train_cfg=dict(
        rpn=dict(assigner=assigner, sampler=dict(num={rpn_samples})),
        rpn_proposal=proposals,
        rcnn=dict(assigner=assigner, sampler=dict(num={roi_samples})),
    ),
    test_cfg=dict(rpn=proposals),
)

# Images are resized to a short side of one of the resolutions.
scales = [(side, 2 * side) for side in resolutions]
load_annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask={with_mask})
train_pipeline = [
    _base_.load,
    load_annotations,
    dict(_base_.resize, scales=scales),
    _base_.flip,
    dict(type='PhotoMetricDistortion'),
    _base_.pack,
]
test_pipeline = [
    _base_.load,
    dict(type='Resize', scale=scales[0], keep_ratio=True),
    load_annotations,
    _base_.pack_test,
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    dataset=dict(train_data, _delete_=True, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=num_workers, dataset=dict(val_data, _delete_=True, test_mode=True, pipeline=test_pipeline)
)
{test_loader}
val_evaluator = dict(ann_file=val_annotations, metric={metric})
{test_evaluator}
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='resformer_mm.MultiResolutionTestLoop', resolutions=test_resolutions)

{schedule}
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(
        interval=val_interval, save_best='coco/bbox_mAP', rule='greater', max_keep_ckpts=1
    ),
)
"""

MASK_HEAD = """\
        mask_roi_extractor=dict(out_channels=channels, featmap_strides=strides[:4]),
        mask_head=dict(
            num_convs=2, in_channels=channels, conv_out_channels=channels, num_classes=len(classes)
        ),
"""
NO_MASK_HEAD = """\
        mask_roi_extractor=None,  # objects have boxes alone
        mask_head=None,
"""
