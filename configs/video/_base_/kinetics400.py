"""Kinetics-400 as mmaction2's TimeSformer uses it: short side 256 to 320, crops of 224, three crops in tests.

A clip is 8 frames at intervals of 32 (8x32x1). docs/kinetics.md says how to get the data and how to check it. One GPU
holds 8 clips, 8 GPUs make the 64 of a step.
"""

data_root = 'data/kinetics400'
num_classes = 400
crop = 224
num_frames = 8
frame_interval = 32

# What every copy of a clip goes through, at its own resolution and with its own random draws.
train_transforms = [
    dict(type='RandomRescale', scale_range=(256, 320)),
    dict(type='RandomCrop', size=crop),
    dict(type='Resize', scale=('{resolution}', '{resolution}'), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
]
test_pipeline = [
    dict(type='resformer_mm.ClipInit'),
    dict(
        type='SampleFrames', clip_len=num_frames, frame_interval=frame_interval, num_clips=1, test_mode=True
    ),
    dict(type='resformer_mm.ClipDecode'),
    dict(type='Resize', scale=(-1, crop)),
    dict(type='ThreeCrop', crop_size=crop),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='resformer_mm.PackClips'),
]
val_pipeline = [
    *test_pipeline[:3],
    dict(type='Resize', scale=(-1, 256)),
    dict(type='CenterCrop', crop_size=crop),
    *test_pipeline[5:],
]
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='resformer_mm.multi_resolution_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='resformer_mm.VideoList',
        num_classes=num_classes,
        ann_file=f'{data_root}/kinetics400_train_list_videos.txt',
        data_prefix=dict(video=f'{data_root}/videos_train'),
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='resformer_mm.VideoList',
        num_classes=num_classes,
        ann_file=f'{data_root}/kinetics400_val_list_videos.txt',
        data_prefix=dict(video=f'{data_root}/videos_val'),
        pipeline=val_pipeline,
        test_mode=True,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='resformer_mm.VideoList',
        num_classes=num_classes,
        ann_file=f'{data_root}/kinetics400_val_list_videos.txt',
        data_prefix=dict(video=f'{data_root}/videos_val'),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator
test_cfg = dict(type='resformer_mm.MultiResolutionTestLoop', resolutions=[96, 128, 160, 224, 288])
