"""A small data set of eleven classes and a segmentor that learns it on two CPU cores in minutes.

The data is in `data/mini_segmentation`, or where the environment variable MINI_SEGMENTATION_ROOT says:

    python tools/dataset_converters/make_embedded_data.py data/mini_segmentation --task segmentation

The backbone is that of the ten-class classifier of tools/quickstart.sh (width 128, 6 blocks, patch 8).
"""

_base_ = ['models/upernet_resformer-small.py', '../../_base_/mini.py', 'runtime.py']

data_root = '{{$MINI_SEGMENTATION_ROOT:data/mini_segmentation}}'
num_classes = 11
crop = 128
width = _base_.arch.embed_dims
norm_cfg = dict(type='BN')
max_iters = 900
pretrained = 'work_dirs/quickstart/resformer-mini_mr-64-48-32_1xb64-30e_mini/epoch_14.pth'
# Four fifths of the pixels are background, and the schedule is short.
class_weight = [0.2] + [1.0] * (num_classes - 1)
head = dict(
    channels=64,
    num_classes=num_classes,
    norm_cfg=norm_cfg,
    loss_decode=dict(class_weight=class_weight),
)

model = dict(
    data_preprocessor=dict(size=(crop, crop), test_cfg=None),
    backbone=dict(
        arch=dict(_base_.arch, _delete_=True),
        patch_size=_base_.patch,
        out_indices=(1, 3, 5),
        drop_path_rate=0.05,
        init_cfg=dict(checkpoint=pretrained),
    ),
    decode_head=dict(head, in_channels=[width] * 3, in_index=[0, 1, 2]),
    auxiliary_head=dict(head, in_channels=width, in_index=2),
)

resize = dict(_base_.resize, scale=(4 * crop, crop))
random_resize, random_crop = _base_.train_pipeline[2:4]
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(random_resize, scale=(4 * crop, crop)),
    dict(random_crop, crop_size=(crop, crop)),
    *_base_.train_pipeline[4:],
]
test_pipeline = [_base_.load, resize, _base_.load_labels, _base_.pack]
folder = dict(
    type='resformer_mm.SegmentationFolder',
    data_root=data_root,
    classes_file='classes.txt',
    reduce_zero_label=True,
)
train_dataloader = dict(batch_size=8, num_workers=2, dataset=dict(folder, pipeline=train_pipeline))
val_dataloader = dict(num_workers=2, dataset=dict(folder, pipeline=test_pipeline))
test_dataloader = val_dataloader

tta_scales = _base_.tta_scales[1:4]
tta_pipeline = [
    _base_.load,
    dict(type='TestTimeAug', transforms=[tta_scales, *_base_.tta_pipeline[1].transforms[1:]]),
]

# As in the large configs, biases decay.
optim_wrapper = dict(optimizer=dict(weight_decay=0.01), paramwise_cfg=dict(bias_decay_mult=None))
param_scheduler = [
    dict(_base_.warmup, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=300)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=300))
auto_scale_lr = dict(enable=False, base_batch_size=8)
randomness = dict(seed=0)
