"""Config of an image classifier."""

CLASSIFICATION = """\
_base_ = [
    'resformer_mm::classification/_base_/models/resformer-small.py',
    'resformer_mm::classification/_base_/imagenet.py',
    'resformer_mm::_base_/no_decay.py',
    'resformer_mm::classification/_base_/runtime.py',
]

{data}
{settings}
model = dict(
    data_preprocessor=dict(mix=None),
    backbone=dict({backbone}),
    head=dict(num_classes=len(classes), in_channels={width}),
)

# Every copy of an image goes through these, at its own resolution and with its own random draws.
train_transforms = [
    dict(_base_.train_transforms[0], crop_ratio_range=(0.3, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='resformer_mm.ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2),
]
copies = dict(_base_.copies, resolutions=resolutions, transforms=train_transforms)
test_pipeline = [_base_.load, dict(_base_.crop, resolution=resolutions[0]), _base_.pack]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    dataset=dict(train_data, _delete_=True, pipeline=[_base_.open_image, copies, _base_.pack]),
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    dataset=dict(val_data, _delete_=True, pipeline=test_pipeline),
)
{test_loader}
val_evaluator = dict(topk={topk})
test_evaluator = val_evaluator
val_cfg = dict(resolutions=resolutions)
test_cfg = dict(resolutions=test_resolutions)

{schedule}
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(save_best='mean/accuracy/top1', rule='greater', max_keep_ckpts=1),
)
"""
