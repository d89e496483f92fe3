"""ImageNet-1k with the augmentation of the paper (Section 4.1).

RandAugment m9 n2 mstd0.5 inc, colour jitter 0.4, random erasing 0.25 (a random colour per pixel), mixup 0.8,
CutMix 1.0, label smoothing 0.1 (in the head), repeated augmentation 3. One GPU holds 128 images.
"""

num_classes = 1000
mean = [123.675, 116.28, 103.53]  # RGB
std = [58.395, 57.12, 57.375]
bgr_mean = mean[::-1]
bgr_std = std[::-1]

data_preprocessor = dict(
    type='resformer_mm.MultiResolutionDataPreprocessor',
    num_classes=num_classes,
    mean=mean,
    std=std,
    to_rgb=True,
    mix=dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5, shared=True),
)

# What every copy of an image goes through, at its own resolution and with its own random draws.
train_transforms = [
    dict(type='RandomResizedCrop', scale='{resolution}', backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[round(x) for x in bgr_mean], interpolation='bicubic'),
    ),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=bgr_mean,
        fill_std=bgr_std,
    ),
]
test_pipeline = [
    dict(type='resformer_mm.LoadImage'),
    dict(type='resformer_mm.ResizeCenterCrop', resolution=224),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='resformer_mm.multi_resolution_collate'),
    sampler=dict(type='RepeatAugSampler', num_repeats=3, shuffle=True),
    dataset=dict(type='resformer_mm.ImageNet', data_root='data/imagenet', split='train'),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='resformer_mm.multi_resolution_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='resformer_mm.ImageNet',
        data_root='data/imagenet',
        split='val',
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict(
    type='resformer_mm.MultiResolutionTestLoop',
    resolutions=[96, 112, 128, 160, 192, 224, 288, 384, 448, 512, 640],
)
