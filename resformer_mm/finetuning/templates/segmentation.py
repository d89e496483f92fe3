"""Config of a segmentor."""

SEGMENTATION = """\
_base_ = [
    'resformer_mm::segmentation/_base_/models/upernet_resformer-small.py',
    'resformer_mm::_base_/no_decay.py',
    'resformer_mm::segmentation/_base_/runtime.py',
]

{data}
{settings}
crop = resolutions[0]
maps = {maps}  # blocks whose outputs the head reads
head = dict(channels={channels}, num_classes=len(classes), norm_cfg=dict(type='{norm}'))
model = dict(
    type='resformer_mm.MultiResolutionSegmentor',
    data_preprocessor=dict(
        type='resformer_mm.MultiResolutionSegDataPreprocessor',
        resolutions=resolutions,
        size=(crop, crop),
        test_cfg=dict(size_divisor={patch}),
    ),
    backbone=dict(out_indices=maps, {backbone}),
    decode_head=dict(head, in_channels=[{width}] * len(maps), in_index=list(range(len(maps)))),
    auxiliary_head=dict(head, in_channels={width}, in_index=len(maps) - 1),
    consistency=dict(type='resformer_mm.KLConsistency', temperature=1.0, loss_weight=1.0),
)

resize = dict(_base_.resize, scale=(4 * crop, crop))
train_pipeline = [
    _base_.load,
    _base_.load_labels,
    dict(type='RandomResize', scale=(4 * crop, crop), ratio_range=(0.75, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(crop, crop), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='resformer_mm.PhotoMetricDistortion'),
    _base_.pack,
]
test_pipeline = [_base_.load, resize, _base_.load_labels, _base_.pack]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    drop_last=True,
    dataset=dict(train_data, _delete_=True, pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=num_workers, dataset=dict(val_data, _delete_=True, pipeline=test_pipeline))
{test_loader}
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='resformer_mm.MultiResolutionTestLoop', resolutions=test_resolutions)

{schedule}
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=val_interval, save_best='mIoU', rule='greater', max_keep_ckpts=1),
)
"""
