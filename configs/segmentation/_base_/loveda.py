"""LoveDA: cities and countryside from above at 0.3 m a pixel, seven classes. Crops of 512, tests on whole tiles of 1024.

The layout is mmsegmentation's, docs/domains.md. Value 0 of the masks is ignored. One GPU holds 2 crops, 8 GPUs make the
16 of a step.
"""

_base_ = 'models/upernet_resformer-small.py'

data_root = 'data/loveDA'
num_classes = 7
model = dict(decode_head=dict(num_classes=num_classes), auxiliary_head=dict(num_classes=num_classes))

load_labels = dict(_base_.load_labels, num_classes=num_classes)
train_pipeline = [_base_.load, load_labels, *_base_.train_pipeline[2:]]
test_pipeline = [
    _base_.load,
    dict(type='Resize', scale=(1024, 1024), keep_ratio=True),
    load_labels,
    _base_.pack,
]
dataset = dict(type='LoveDADataset', data_root=data_root)
train_dataloader = dict(
    dataset=dict(
        dataset,
        data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        dataset,
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader

tta_pipeline = [
    _base_.load,
    dict(type='TestTimeAug', transforms=[_base_.tta_scales, _base_.tta_flips, [load_labels], [_base_.pack]]),
]
