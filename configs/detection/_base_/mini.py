"""A small data set of five categories and a Mask R-CNN that learns it on two CPU cores in minutes.

The data is in `data/mini_detection`, or where the environment variable MINI_DETECTION_ROOT says:

    python tools/dataset_converters/make_embedded_data.py data/mini_detection --task detection

The backbone is that of the ten-class classifier of tools/quickstart.sh (width 128, 6 blocks, patch 8), without its
class token; windows of 8 x 8 tokens, as many as the classifier sees at 64 pixels, in all blocks but two. The model is
that of the large configs with a quarter of the channels, a box head without convolutions, and fewer levels and
proposals.
"""

_base_ = ['models/mask-rcnn_resformer-small.py', 'coco.py', '../../_base_/mini.py', 'runtime.py']

data_root = '{{$MINI_DETECTION_ROOT:data/mini_detection}}'
num_classes = 5
short_sides = [96, 112, 128]
max_epochs = 8
channels = 64
strides = [8, 16, 32]
pretrained = 'work_dirs/quickstart/resformer-mini_mr-64-48-32_1xb64-30e_mini/epoch_14.pth'
# Crowds are small objects: without this, what is found in them would be learned as background.
assigner = dict(ignore_iof_thr=0.5)
proposals = dict(nms_pre=300, max_per_img=100)

model = dict(
    data_preprocessor=dict(pad_size_divisor=_base_.patch),
    backbone=dict(
        arch=dict(_base_.arch, _delete_=True),
        patch_size=_base_.patch,
        window_size=64 // _base_.patch,
        window_block_indices=(0, 1, 3, 4),
        drop_path_rate=0.05,
        init_cfg=dict(checkpoint=pretrained),
    ),
    neck=dict(
        in_channels=_base_.arch.embed_dims,
        out_channels=channels,
        scale_factors=(1, 0.5),
        num_outs=len(strides),
    ),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        num_convs=1,
        anchor_generator=dict(scales=[4], strides=strides),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels, featmap_strides=strides),
        bbox_head=dict(
            type='Shared2FCBBoxHead', in_channels=channels, fc_out_channels=256, num_classes=num_classes
        ),
        mask_roi_extractor=dict(out_channels=channels, featmap_strides=strides),
        mask_head=dict(
            num_convs=2, in_channels=channels, conv_out_channels=channels, num_classes=num_classes
        ),
    ),
    train_cfg=dict(
        rpn=dict(assigner=assigner, sampler=dict(num=64)),
        rpn_proposal=proposals,
        rcnn=dict(assigner=assigner, sampler=dict(num=48)),
    ),
    test_cfg=dict(rpn=proposals),
)

scales = [(side, 4 * side) for side in short_sides]
train_pipeline = [
    _base_.load,
    _base_.load_annotations,
    dict(_base_.resize, scales=scales),
    _base_.flip,
    _base_.pack,
]
test_pipeline = [
    _base_.load,
    dict(type='Resize', scale=scales[-1], keep_ratio=True),
    _base_.load_annotations,
    _base_.pack_test,
]
folder = dict(
    type='resformer_mm.DetectionFolder',
    data_root=data_root,
    classes_file='annotations/instances_train2017.json',
)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(folder, filter_cfg=None, pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=2, dataset=dict(folder, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/annotations/instances_val2017.json')
test_evaluator = val_evaluator

param_scheduler = [dict(_base_.warmup, end=50), dict(_base_.cosine, end=max_epochs, T_max=max_epochs)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=20))
auto_scale_lr = dict(enable=False, base_batch_size=8)
randomness = dict(seed=0)
