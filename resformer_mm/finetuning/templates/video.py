"""Config of a recognizer of clips."""

VIDEO = """\
_base_ = [
    'resformer_mm::video/_base_/models/resformer-base.py',
    'resformer_mm::video/_base_/kinetics400.py',
    'resformer_mm::_base_/no_decay.py',
    'resformer_mm::video/_base_/runtime.py',
]

{data}
{settings}
crop = resolutions[0]
num_frames = 8
frame_interval = 4
model = dict(
    backbone=dict(num_frames=num_frames, {backbone}),
    cls_head=dict(num_classes=len(classes), in_channels={width}),
)

# Every copy of a clip goes through these, at its own resolution. Clips are not flipped: where classes are
# motions, left would become right. If they are not, add dict(type='Flip', flip_ratio=0.5).
train_transforms = [
    dict(type='RandomResizedCrop', area_range=(0.5, 1.0), aspect_ratio_range=(0.8, 1.25)),
    dict(type='Resize', scale=('{{resolution}}', '{{resolution}}'), keep_ratio=False),
    _base_.shape,
]
copies = dict(
    _base_.copies,
    num_frames=num_frames,
    frame_interval=frame_interval,
    transforms=train_transforms,
    resolutions=resolutions,
)
sample = dict(_base_.sample, clip_len=num_frames, frame_interval=frame_interval)
test_pipeline = [
    _base_.load,
    sample,
    _base_.decode,
    dict(_base_.resize, scale=(-1, crop)),
    dict(type='CenterCrop', crop_size=crop),
    _base_.shape,
    _base_.pack,
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    dataset=dict(train_data, _delete_=True, pipeline=[_base_.load, copies, _base_.pack]),
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    dataset=dict(val_data, _delete_=True, test_mode=True, pipeline=test_pipeline),
)
{test_loader}
val_evaluator = dict(metric_options=dict(top_k_accuracy=dict(topk={topk})))
test_evaluator = val_evaluator
val_cfg = dict(resolutions=resolutions)
test_cfg = dict(resolutions=test_resolutions)

{schedule}
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(save_best='mean/acc/top1', rule='greater', max_keep_ckpts=1),
)
"""
