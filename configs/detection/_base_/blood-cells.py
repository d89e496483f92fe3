"""Microscope photos of three kinds of blood cells with their boxes (BCCD), at 0.27 to 0.4 times their size.

The data is in `data/bccd_coco`, or where the environment variable BCCD_ROOT says. BCCD has Pascal VOC files, from which

    python tools/dataset_converters/convert_annotations.py data/bccd data/bccd_coco --to coco

makes a COCO file for each of its own splits: 205 images to train on, 87 to validate, 72 to test. The backbone is that of
the ten-class classifiers (width 128, 6 blocks, patch 8), with windows of 8 x 8 tokens in all blocks but two. A config that
inherits this one names the detector.
"""

_base_ = 'mini.py'

data_root = '{{$BCCD_ROOT:data/bccd_coco}}'
num_classes = 3
short_sides = [128, 160, 192]  # of 480 pixels; red cells are then 27 to 41 pixels large, platelets 11 to 16
max_epochs = 12
# The classifier that was trained on 64, 48 and 32 pixels of ten ImageNet classes: docs/domains.md.
pretrained = 'work_dirs/resformer-mini_mr-64-48-32_1xb64-30e_mini/epoch_30.pth'

model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))

load_annotations = dict(type='LoadAnnotations', with_bbox=True)
# A cell looks alike from all sides.
flip = dict(type='RandomFlip', prob=[0.25] * 3, direction=['horizontal', 'vertical', 'diagonal'])
scales = [(side, 4 * side) for side in short_sides]
train_pipeline = [
    _base_.load,
    load_annotations,
    dict(_base_.resize, scales=scales),
    flip,
    _base_.pack,
]
test_pipeline = [
    _base_.load,
    dict(type='Resize', scale=scales[-1], keep_ratio=True),
    load_annotations,
    _base_.pack_test,
]
folder = dict(data_root=data_root, classes_file='annotations/instances_train.json')
train_dataloader = dict(
    dataset=dict(
        folder,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        folder,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val'),
        pipeline=test_pipeline,
    )
)
test_dataloader = dict(
    dataset=dict(
        folder,
        ann_file='annotations/instances_test.json',
        data_prefix=dict(img='test'),
        pipeline=test_pipeline,
    )
)
val_evaluator = dict(ann_file=f'{data_root}/annotations/instances_val.json', metric='bbox')
test_evaluator = dict(ann_file=f'{data_root}/annotations/instances_test.json', metric='bbox')

param_scheduler = [dict(_base_.warmup, end=50), dict(_base_.cosine, end=max_epochs, T_max=max_epochs)]
train_cfg = dict(max_epochs=max_epochs, val_interval=4)
