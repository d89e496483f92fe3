"""A small data set of ten classes and a model that learns it on two CPU cores in minutes.

Width 128, 6 blocks, 4 heads, patch 8; 30 epochs of 64 images a step, AdamW 1e-3 cosine after 100 warm-up steps,
weight decay 0.05, gradient clip 5, label smoothing 0.1, drop path 0.05; random resized crop of area 0.3-1, flip,
light brightness and contrast; bfloat16 autocast. The data is in `data/mini`, or where the environment variable
MINI_DATA_ROOT says, in ImageNet folder layout.
"""

_base_ = ['../../_base_/adamw_mini.py', 'runtime.py']

num_classes = 10
data_root = '{{$MINI_DATA_ROOT:data/mini}}'
max_epochs = 30

model = dict(
    type='resformer_mm.MultiResolutionClassifier',
    data_preprocessor=dict(
        type='resformer_mm.MultiResolutionDataPreprocessor',
        num_classes=num_classes,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(
        type='resformer_mm.ResFormer',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        patch_size=8,
        drop_path_rate=0.05,
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=num_classes,
        in_channels=128,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    consistency=dict(type='resformer_mm.SmoothL1Consistency'),
)

train_transforms = [
    dict(
        type='RandomResizedCrop',
        scale='{resolution}',
        crop_ratio_range=(0.3, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='ColorJitter', brightness=0.2, contrast=0.2),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='resformer_mm.multi_resolution_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='resformer_mm.ImageFolder', data_root=data_root, data_prefix='train'),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='resformer_mm.multi_resolution_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='resformer_mm.ImageFolder',
        data_root=data_root,
        data_prefix='val',
        pipeline=[
            dict(type='resformer_mm.LoadImage'),
            dict(type='resformer_mm.ResizeCenterCrop', resolution=64),
            dict(type='PackInputs'),
        ],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict(type='resformer_mm.MultiResolutionValLoop', resolutions=[64, 48, 32])
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict(
    type='resformer_mm.MultiResolutionTestLoop', resolutions=[24, 32, 40, 48, 56, 64, 80, 96, 128]
)

optim_wrapper = dict(type='resformer_mm.AutocastOptimWrapper')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=10)
default_hooks = dict(logger=dict(interval=10))
auto_scale_lr = dict(enable=False, base_batch_size=64)
randomness = dict(seed=0)
