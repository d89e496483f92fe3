"""A small data set of six motions and a recognizer that learns it on two CPU cores in minutes.

The data is in `data/mini_video`, or where the environment variable MINI_VIDEO_ROOT says:

    python tools/dataset_converters/make_embedded_data.py data/mini_video --task video

No single frame shows the class, which is how the object moves. The backbone is that of the ten-class classifier of
tools/quickstart.sh (width 128, 6 blocks, patch 8). Clips are never flipped, which would turn left into right.
"""

_base_ = ['models/resformer-base.py', 'kinetics400.py', '../../_base_/mini.py', 'runtime.py']

data_root = '{{$MINI_VIDEO_ROOT:data/mini_video}}'
motions = ['left', 'right', 'up', 'down', 'clockwise', 'anticlockwise']
num_classes = len(motions)
crop = 40
num_frames = 4
frame_interval = 6
resolutions = [40, 32, 24]
max_epochs = 13
batch_size = 16
pretrained = 'work_dirs/quickstart/resformer-mini_mr-64-48-32_1xb64-30e_mini/epoch_14.pth'

model = dict(
    backbone=dict(
        arch=dict(_base_.arch, _delete_=True),
        patch_size=_base_.patch,
        num_frames=num_frames,
        # Only the order in time shows the class: it is present from the start, as large as the tokens.
        temporal_init_std=2.0,
        drop_path_rate=0.05,
        init_cfg=dict(checkpoint=pretrained),
    ),
    cls_head=dict(num_classes=num_classes, in_channels=_base_.arch.embed_dims),
)

train_transforms = [
    dict(type='RandomResizedCrop', area_range=(0.7, 1.0), aspect_ratio_range=(0.8, 1.25)),
    dict(type='Resize', scale=('{resolution}', '{resolution}'), keep_ratio=False),
    _base_.shape,
]
copies = dict(
    _base_.copies, num_frames=num_frames, frame_interval=frame_interval, transforms=train_transforms
)
sample = dict(_base_.sample, clip_len=num_frames, frame_interval=frame_interval)
resize = dict(_base_.resize, scale=(-1, crop))
test_pipeline = [
    _base_.load,
    sample,
    _base_.decode,
    resize,
    dict(type='CenterCrop', crop_size=crop),
    _base_.shape,
    _base_.pack,
]
videos = dict(
    num_classes=num_classes,
    data_root=data_root,
    data_prefix=dict(video=''),
    metainfo=dict(classes=motions),
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    dataset=dict(
        videos,
        ann_file='train_list.txt',
        pipeline=[_base_.load, dict(copies, resolutions=resolutions), _base_.pack],
    ),
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    dataset=dict(videos, ann_file='val_list.txt', pipeline=test_pipeline),
)
val_cfg = dict(resolutions=resolutions)
test_dataloader = val_dataloader
test_cfg = dict(resolutions=[16, 24, 32, 40, 48, 56, 64])

param_scheduler = [dict(_base_.warmup, end=30), dict(_base_.cosine, end=max_epochs, T_max=max_epochs)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_begin=1, val_interval=13)
default_hooks = dict(logger=dict(interval=10))
auto_scale_lr = dict(enable=False, base_batch_size=batch_size)
randomness = dict(seed=0)
