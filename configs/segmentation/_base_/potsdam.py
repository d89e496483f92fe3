"""ISPRS Potsdam: a city from above at 0.05 m a pixel, six classes, in tiles of 512.

The layout is mmsegmentation's, docs/domains.md. Value 0 of the masks is ignored.
"""

_base_ = 'loveda.py'

data_root = 'data/potsdam'
num_classes = 6
model = dict(decode_head=dict(num_classes=num_classes), auxiliary_head=dict(num_classes=num_classes))

size = (_base_.crop, _base_.crop)
load_labels = dict(_base_.load_labels, num_classes=num_classes)
train_pipeline = [
    _base_.load,
    load_labels,
    dict(type='RandomResize', scale=size, ratio_range=(0.5, 2.0), keep_ratio=True),
    *_base_.train_pipeline[3:],
]
test_pipeline = [_base_.load, dict(type='Resize', scale=size, keep_ratio=True), load_labels, _base_.pack]
dataset = dict(type='PotsdamDataset', data_root=data_root)
train_dataloader = dict(dataset=dict(dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader

tta_pipeline = [
    _base_.load,
    dict(type='TestTimeAug', transforms=[_base_.tta_scales, _base_.tta_flips, [load_labels], [_base_.pack]]),
]
