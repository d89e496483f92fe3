"""A small data set of five categories and a Mask R-CNN that learns it on two CPU cores in minutes.

The data is in `data/mini_detection`, or where the environment variable MINI_DETECTION_ROOT says:

    python tools/dataset_converters/make_embedded_data.py data/mini_detection --task detection

The backbone is that of the ten-class classifier of tools/quickstart.sh (width 128, 6 blocks, patch 8), without its class
token; windows of 8 x 8 tokens, as many as the classifier sees at 64 pixels, in all blocks but two. The model is that of
the large configs with a quarter of the channels, a box head without convolutions, and fewer levels and proposals.
"""

_base_ = ['models/mask-rcnn_resformer-small.py', 'coco.py', '../../_base_/adamw_mini.py', 'runtime.py']

data_root = '{{$MINI_DETECTION_ROOT:data/mini_detection}}'
num_classes = 5
short_sides = [96, 112, 128]
max_epochs = 8
width = 128
patch = 8
channels = 64
strides = [8, 16, 32]
pretrained = 'work_dirs/quickstart/resformer-mini_mr-64-48-32_1xb64-30e_mini/epoch_14.pth'
# Crowds are small objects: without this, what is found in them would be learned as background.
assigner = dict(ignore_iof_thr=0.5)
proposals = dict(nms_pre=300, max_per_img=100)

model = dict(
    data_preprocessor=dict(pad_size_divisor=patch),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=width, num_layers=6, num_heads=4, feedforward_channels=512),
        patch_size=patch,
        window_size=64 // patch,
        window_block_indices=(0, 1, 3, 4),
        drop_path_rate=0.05,
        init_cfg=dict(type='resformer_mm.PretrainedResFormer', checkpoint=pretrained),
    ),
    neck=dict(in_channels=width, out_channels=channels, scale_factors=(1, 0.5), num_outs=len(strides)),
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

load_annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        type='resformer_mm.DetectionFolder',
        data_root=data_root,
        classes_file='annotations/instances_train2017.json',
        filter_cfg=None,
        pipeline=[
            dict(type='resformer_mm.LoadImage'),
            load_annotations,
            dict(
                type='RandomChoiceResize',
                scales=[(side, 4 * side) for side in short_sides],
                keep_ratio=True,
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = dict(
    num_workers=2,
    dataset=dict(
        type='resformer_mm.DetectionFolder',
        data_root=data_root,
        classes_file='annotations/instances_train2017.json',
        pipeline=[
            dict(type='resformer_mm.LoadImage'),
            dict(type='Resize', scale=(short_sides[-1], 4 * short_sides[-1]), keep_ratio=True),
            load_annotations,
            dict(
                type='PackDetInputs',
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
            ),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/annotations/instances_val2017.json')
test_evaluator = val_evaluator

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=20))
auto_scale_lr = dict(enable=False, base_batch_size=8)
randomness = dict(seed=0)
