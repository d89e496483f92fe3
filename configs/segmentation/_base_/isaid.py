"""iSAID: objects in satellite images, fifteen classes and the background, in patches and crops of 896.

The layout is mmsegmentation's, docs/domains.md. Value 255 of the masks is ignored.
"""

_base_ = 'potsdam.py'

data_root = 'data/iSAID'
num_classes = 16
crop = 896
size = (crop, crop)
model = dict(
    data_preprocessor=dict(size=size),
    decode_head=dict(num_classes=num_classes),
    auxiliary_head=dict(num_classes=num_classes),
)

load_labels = dict(_base_.load_labels, num_classes=num_classes)
random_resize, random_crop, *colours_and_pack = _base_.train_pipeline[2:]
train_pipeline = [
    _base_.load,
    load_labels,
    dict(random_resize, scale=size),
    dict(random_crop, crop_size=size),
    *colours_and_pack,
]
test_pipeline = [_base_.load, dict(type='Resize', scale=size, keep_ratio=True), load_labels, _base_.pack]
dataset = dict(type='iSAIDDataset', data_root=data_root)
train_dataloader = dict(dataset=dict(dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader

tta_pipeline = [
    _base_.load,
    dict(type='TestTimeAug', transforms=[_base_.tta_scales, _base_.tta_flips, [load_labels], [_base_.pack]]),
]
