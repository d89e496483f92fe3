"""A small data set of eleven classes and a segmentor that learns it on two CPU cores in minutes.

The data is in `data/mini_segmentation`, or where the environment variable MINI_SEGMENTATION_ROOT says:

    python tools/dataset_converters/make_embedded_data.py data/mini_segmentation --task segmentation

The backbone is that of the ten-class classifier of tools/quickstart.sh (width 128, 6 blocks, patch 8).
"""

_base_ = ['../../_base_/adamw_mini.py', 'runtime.py']

data_root = '{{$MINI_SEGMENTATION_ROOT:data/mini_segmentation}}'
num_classes = 11
crop = 128
max_iters = 900
pretrained = 'work_dirs/quickstart/resformer-mini_mr-64-48-32_1xb64-30e_mini/epoch_14.pth'
norm_cfg = dict(type='BN')
# Four fifths of the pixels are background, and the schedule is short.
class_weight = [0.2] + [1.0] * (num_classes - 1)

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(crop, crop),
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='resformer_mm.ResFormer',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        patch_size=8,
        out_indices=(1, 3, 5),
        out_type='featmap',
        final_norm=False,
        drop_path_rate=0.05,
        init_cfg=dict(type='resformer_mm.PretrainedResFormer', checkpoint=pretrained),
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[128] * 3,
        in_index=[0, 1, 2],
        pool_scales=(1, 2, 3, 6),
        channels=64,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0, class_weight=class_weight),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=128,
        in_index=2,
        channels=64,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4, class_weight=class_weight),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

test_pipeline = [
    dict(type='resformer_mm.LoadImage'),
    dict(type='Resize', scale=(4 * crop, crop), keep_ratio=True),
    dict(type='resformer_mm.LoadSegMap'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='resformer_mm.SegmentationFolder',
        data_root=data_root,
        classes_file='classes.txt',
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=[
            dict(type='resformer_mm.LoadImage'),
            dict(type='resformer_mm.LoadSegMap'),
            dict(type='RandomResize', scale=(4 * crop, crop), ratio_range=(0.5, 2.0), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(crop, crop), cat_max_ratio=0.75),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackSegInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='resformer_mm.SegmentationFolder',
        data_root=data_root,
        classes_file='classes.txt',
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='resformer_mm.LoadImage'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (0.75, 1.0, 1.25)],
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [dict(type='resformer_mm.LoadSegMap')],
            [dict(type='PackSegInputs')],
        ],
    ),
]

# As in the large configs, biases decay.
optim_wrapper = dict(optimizer=dict(weight_decay=0.01), paramwise_cfg=dict(bias_decay_mult=None))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=300)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=300))
auto_scale_lr = dict(enable=False, base_batch_size=8)
randomness = dict(seed=0)
