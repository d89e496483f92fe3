"""Kinetics-400 as mmaction2's TimeSformer uses it: short side 256 to 320, crops of 224, three crops in tests.

A clip is 8 frames at intervals of 32 (8x32x1). docs/data/kinetics.md says how to get the data and how to check it. One
GPU holds 8 clips, 8 GPUs make the 64 of a step.

A training pipeline is `[_base_.load, dict(_base_.copies, resolutions=resolutions), _base_.pack]`.
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
load = dict(type='resformer_mm.ClipInit')
copies = dict(
    type='resformer_mm.MultiResolutionClips',
    num_frames=num_frames,
    frame_interval=frame_interval,
    transforms=train_transforms,
)
sample = dict(
    type='SampleFrames', clip_len=num_frames, frame_interval=frame_interval, num_clips=1, test_mode=True
)
decode = dict(type='resformer_mm.ClipDecode')
resize = dict(type='Resize', scale=(-1, crop))
shape = dict(type='FormatShape', input_format='NCTHW')
pack = dict(type='resformer_mm.PackClips')
test_pipeline = [load, sample, decode, resize, dict(type='ThreeCrop', crop_size=crop), shape, pack]
val_pipeline = [
    load,
    sample,
    decode,
    dict(resize, scale=(-1, 256)),
    dict(type='CenterCrop', crop_size=crop),
    shape,
    pack,
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
    val_dataloader, batch_size=1, dataset=dict(val_dataloader['dataset'], pipeline=test_pipeline)
)
val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator
val_cfg = dict(type='resformer_mm.MultiResolutionValLoop')
test_cfg = dict(type='resformer_mm.MultiResolutionTestLoop', resolutions=[96, 128, 160, 224, 288])
