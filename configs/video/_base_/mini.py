"""A small data set of six motions and a recognizer that learns it on two CPU cores in minutes.

The data is in `data/mini_video`, or where the environment variable MINI_VIDEO_ROOT says:

    python tools/dataset_converters/make_embedded_data.py data/mini_video --task video

No single frame tells the class, which is how the object moves. The backbone is that of the ten-class classifier of
tools/quickstart.sh (width 128, 6 blocks, patch 8). Clips are never flipped, which would turn left into right.
"""

_base_ = ['../../_base_/adamw_mini.py', 'runtime.py']

data_root = '{{$MINI_VIDEO_ROOT:data/mini_video}}'
motions = ['left', 'right', 'up', 'down', 'clockwise', 'anticlockwise']
crop = 40
num_frames = 4
frame_interval = 6
max_epochs = 13
batch_size = 16
pretrained = 'work_dirs/quickstart/resformer-mini_mr-64-48-32_1xb64-30e_mini/epoch_14.pth'

model = dict(
    type='resformer_mm.MultiResolutionRecognizer',
    data_preprocessor=dict(
        type='resformer_mm.MultiResolutionActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(
        type='resformer_mm.VideoResFormer',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        patch_size=8,
        num_frames=num_frames,
        # Order in time is all that tells the class: it is there from the start, as large as the tokens.
        temporal_init_std=2.0,
        drop_path_rate=0.05,
        init_cfg=dict(type='resformer_mm.PretrainedResFormer', checkpoint=pretrained),
    ),
    cls_head=dict(type='TimeSformerHead', num_classes=len(motions), in_channels=128, average_clips='prob'),
    consistency=dict(type='resformer_mm.SmoothL1Consistency'),
)

train_transforms = [
    dict(type='RandomResizedCrop', area_range=(0.7, 1.0), aspect_ratio_range=(0.8, 1.25)),
    dict(type='Resize', scale=('{resolution}', '{resolution}'), keep_ratio=False),
    dict(type='FormatShape', input_format='NCTHW'),
]
test_pipeline = [
    dict(type='resformer_mm.ClipInit'),
    dict(
        type='SampleFrames', clip_len=num_frames, frame_interval=frame_interval, num_clips=1, test_mode=True
    ),
    dict(type='resformer_mm.ClipDecode'),
    dict(type='Resize', scale=(-1, crop)),
    dict(type='CenterCrop', crop_size=crop),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='resformer_mm.PackClips'),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='resformer_mm.multi_resolution_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='resformer_mm.VideoList',
        data_root=data_root,
        ann_file='train_list.txt',
        data_prefix=dict(video=''),
        metainfo=dict(classes=motions),
    ),
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='resformer_mm.VideoList',
        data_root=data_root,
        ann_file='val_list.txt',
        data_prefix=dict(video=''),
        metainfo=dict(classes=motions),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='AccMetric')
val_cfg = dict(type='resformer_mm.MultiResolutionValLoop', resolutions=[40, 32, 24])
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict(type='resformer_mm.MultiResolutionTestLoop', resolutions=[16, 24, 32, 40, 48, 56, 64])

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_begin=1, val_interval=13)
default_hooks = dict(logger=dict(interval=10))
auto_scale_lr = dict(enable=False, base_batch_size=batch_size)
randomness = dict(seed=0)
