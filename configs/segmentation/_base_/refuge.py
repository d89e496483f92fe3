"""REFUGE: optic disc and optic cup in photographs of the retina, crops of 512 from images with a short side of 256 to 1024.

The layout is mmsegmentation's, docs/domains.md. mmsegmentation cuts its crops from images of about 2000 pixels, where the
disc fills a crop; here a crop shows where in the eye it is. The metric is the mean Dice coefficient.
"""

_base_ = 'models/upernet_resformer-small.py'

data_root = 'data/REFUGE'
num_classes = 3
model = dict(decode_head=dict(num_classes=num_classes), auxiliary_head=dict(num_classes=num_classes))

load_labels = dict(_base_.load_labels, num_classes=num_classes)
train_pipeline = [_base_.load, load_labels, *_base_.train_pipeline[2:]]
test_pipeline = [_base_.load, _base_.resize, load_labels, _base_.pack]
# The names of the folders are those of ADE20K.
dataset = dict(type='REFUGEDataset', data_root=data_root)
train_dataloader = dict(dataset=dict(dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(dataset, pipeline=test_pipeline))
test_dataloader = dict(
    dataset=dict(
        dataset,
        data_prefix=dict(img_path='images/test', seg_map_path='annotations/test'),
        pipeline=test_pipeline,
    )
)
val_evaluator = dict(iou_metrics=['mDice'])
test_evaluator = val_evaluator

tta_pipeline = [
    _base_.load,
    dict(type='TestTimeAug', transforms=[_base_.tta_scales, _base_.tta_flips, [load_labels], [_base_.pack]]),
]
