"""COCO 2017 with large-scale jitter: images scaled by 0.1 to 2 of what fits 1024 x 1024, then cut or padded to it."""

_base_ = 'coco.py'

size = (1024, 1024)

train_pipeline = [
    _base_.load,
    _base_.load_annotations,
    _base_.flip,
    dict(type='RandomResize', scale=size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='absolute_range',
        crop_size=size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    _base_.pack,
]
test_pipeline = [
    _base_.load,
    dict(type='Resize', scale=size, keep_ratio=True),
    _base_.load_annotations,
    _base_.pack_test,
]
train_dataloader = dict(
    batch_size=8,
    sampler=dict(type='InfiniteSampler'),
    batch_sampler=None,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
