"""A small data set of ten classes and a model that learns it on two CPU cores in minutes.

Width 128, 6 blocks, 4 heads, patch 8; 30 epochs of 64 images a step, AdamW 1e-3 cosine after 100 warm-up steps,
weight decay 0.05, gradient clip 5, label smoothing 0.1, drop path 0.05; random resized crop of area 0.3-1, flip,
light brightness and contrast; bfloat16 autocast. The data is in `data/mini`, or where the environment variable
MINI_DATA_ROOT says, in ImageNet folder layout.
"""

_base_ = ['models/resformer-small.py', 'imagenet.py', '../../_base_/mini.py', 'runtime.py']

data_root = '{{$MINI_DATA_ROOT:data/mini}}'
max_epochs = 30
resolutions = [64, 48, 32]

model = dict(
    data_preprocessor=dict(mix=None),
    backbone=dict(arch=dict(_base_.arch, _delete_=True), patch_size=_base_.patch, drop_path_rate=0.05),
    head=dict(num_classes=10, in_channels=_base_.arch.embed_dims),
)

train_transforms = [
    dict(_base_.train_transforms[0], crop_ratio_range=(0.3, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='resformer_mm.ColorJitter', brightness=0.2, contrast=0.2),
]
copies = dict(_base_.copies, transforms=train_transforms)
crop = dict(_base_.crop, resolution=resolutions[0])
folder = dict(type='resformer_mm.ImageFolder', data_root=data_root)
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    dataset=dict(
        folder,
        _delete_=True,
        data_prefix='train',
        pipeline=[_base_.open_image, dict(copies, resolutions=resolutions), _base_.pack],
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    dataset=dict(folder, _delete_=True, data_prefix='val', pipeline=[_base_.load, crop, _base_.pack]),
)
val_cfg = dict(resolutions=resolutions)
test_dataloader = val_dataloader
test_cfg = dict(resolutions=[24, 32, 40, 48, 56, 64, 80, 96, 128])

optim_wrapper = dict(type='resformer_mm.AutocastOptimWrapper')
param_scheduler = [dict(_base_.warmup, end=100), dict(_base_.cosine, end=max_epochs, T_max=max_epochs)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=10)
default_hooks = dict(logger=dict(interval=10))
auto_scale_lr = dict(enable=False, base_batch_size=64)
randomness = dict(seed=0)
