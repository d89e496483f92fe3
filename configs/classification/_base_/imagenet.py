"""ImageNet-1k with the augmentation of the paper (Section 4.1).

RandAugment m9 n2 mstd0.5 inc, colour jitter 0.4, random erasing 0.25 (a random colour per pixel), repeated
augmentation 3. Mixup, CutMix and label smoothing belong to the model. One GPU holds 128 images.

A training pipeline is `[_base_.open_image, dict(_base_.copies, resolutions=resolutions), _base_.pack]`. Large JPEG files
are then decoded no larger than the crops need; `_base_.load` in place of `_base_.open_image` decodes them fully.
"""

# Those of the data preprocessor, which are RGB, as the image is read.
bgr_mean = [103.53, 116.28, 123.675]
bgr_std = [57.375, 57.12, 58.395]

# What every copy of an image goes through, at its own resolution and with its own random draws.
train_transforms = [
    dict(type='resformer_mm.RandomResizedCrop', scale='{resolution}', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='resformer_mm.RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[round(x) for x in bgr_mean], interpolation='bicubic'),
    ),
    dict(type='resformer_mm.ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(
        type='resformer_mm.RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=bgr_mean,
        fill_std=bgr_std,
    ),
]
open_image = dict(type='resformer_mm.OpenImage')
load = dict(type='resformer_mm.LoadImage')
copies = dict(type='resformer_mm.MultiResolution', transforms=train_transforms)
crop = dict(type='resformer_mm.ResizeCenterCrop', resolution=224)
pack = dict(type='PackInputs')

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
        pipeline=[load, crop, pack],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
val_cfg = dict(type='resformer_mm.MultiResolutionValLoop')

test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict(
    type='resformer_mm.MultiResolutionTestLoop',
    resolutions=[96, 112, 128, 160, 192, 224, 288, 384, 448, 512, 640],
)
