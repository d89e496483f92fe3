"""Synapse: slices of computed tomography, eight organs and the background, at 224 pixels, rotated and flipped.

The layout is mmsegmentation's, docs/domains.md. The metric is the mean Dice coefficient of the classes over the slices,
as mmsegmentation measures it, not that over whole volumes. One GPU holds 3 slices, 8 GPUs make 24 a step.
"""

_base_ = 'models/upernet_resformer-small.py'

data_root = 'data/synapse'
num_classes = 9
crop = 224
size = (crop, crop)
model = dict(
    data_preprocessor=dict(size=size),
    decode_head=dict(num_classes=num_classes),
    auxiliary_head=dict(num_classes=num_classes),
)

load_labels = dict(_base_.load_labels, num_classes=num_classes)
resize = dict(type='Resize', scale=size, keep_ratio=True)
train_pipeline = [
    _base_.load,
    load_labels,
    resize,
    dict(type='RandomRotFlip', rotate_prob=0.5, flip_prob=0.5, degree=20),
    _base_.pack,
]
test_pipeline = [_base_.load, resize, load_labels, _base_.pack]
dataset = dict(type='SynapseDataset', data_root=data_root)
train_dataloader = dict(
    batch_size=3,
    dataset=dict(
        dataset,
        data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        dataset,
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(iou_metrics=['mDice'])
test_evaluator = val_evaluator

tta_pipeline = [
    _base_.load,
    dict(type='TestTimeAug', transforms=[_base_.tta_scales, _base_.tta_flips, [load_labels], [_base_.pack]]),
]
