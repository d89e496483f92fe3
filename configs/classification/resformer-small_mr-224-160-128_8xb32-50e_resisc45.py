"""NWPU-RESISC45: 45 kinds of places in aerial images at 0.2 to 30 m a pixel, ResFormer-S-MR fine-tuned on 8 GPUs.

    bash tools/dist_train.sh configs/classification/resformer-small_mr-224-160-128_8xb32-50e_resisc45.py 8

The data is in `data/resisc45/{train,val}/CLASS`, docs/domains.md. AdamW 5e-4 for 8 GPUs * 32 images, for another total
batch `--auto-scale-lr`; each block learns at 0.75 times the rate of the next one. No published figure. Not trained here.
`pretrained` is a classification checkpoint of this project or a published one.
"""

_base_ = [
    '_base_/models/resformer-small.py',
    '_base_/imagenet.py',
    '../_base_/no_decay.py',
    '_base_/runtime.py',
]

data_root = 'data/resisc45'
num_classes = 45
resolutions = [224, 160, 128]
max_epochs = 50
warmup_epochs = 5
base_batch_size = 256
pretrained = 'checkpoints/resformer-small_mr-224-160-128.pth'

model = dict(
    data_preprocessor=dict(mix=None),
    backbone=dict(init_cfg=dict(type='resformer_mm.PretrainedResFormer', checkpoint=pretrained)),
    head=dict(num_classes=num_classes),
)

# Places look alike from all sides.
flip = dict(type='RandomFlip', prob=[0.25] * 3, direction=['horizontal', 'vertical', 'diagonal'])
train_transforms = [
    dict(_base_.train_transforms[0], crop_ratio_range=(0.3, 1.0)),
    flip,
    dict(type='resformer_mm.ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2),
]
copies = dict(_base_.copies, resolutions=resolutions, transforms=train_transforms)
# Images have 256 x 256 pixels and are not cropped.
whole = dict(_base_.crop, resolution=resolutions[0], crop_pct=1.0)
folder = dict(type='resformer_mm.ImageFolder', data_root=data_root)
train_dataloader = dict(
    batch_size=32,
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    dataset=dict(
        folder, _delete_=True, data_prefix='train', pipeline=[_base_.open_image, copies, _base_.pack]
    ),
)
val_dataloader = dict(
    dataset=dict(folder, _delete_=True, data_prefix='val', pipeline=[_base_.load, whole, _base_.pack]),
)
test_dataloader = val_dataloader
val_cfg = dict(resolutions=resolutions)
test_cfg = dict(resolutions=[64, 96, 128, 160, 192, 224, 256, 320])

optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05),
    constructor='resformer_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75, norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
auto_scale_lr = dict(enable=False, base_batch_size=base_batch_size)
