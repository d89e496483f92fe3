"""VisDrone: people and vehicles from drones, ten categories, up to hundreds of small objects in an image.

docs/domains.md says how to get a COCO file for each split. Images are resized to a short side of 640 to 960 pixels,
about their own size, and not cropped. One GPU holds 2 images, 8 GPUs make the 16 of a step.
"""

_base_ = 'boxes.py'

data_root = 'data/visdrone'
short_sides = list(range(640, 961, 64))
long_side = 1600

scales = [(side, long_side) for side in short_sides]
load_annotations = dict(type='LoadAnnotations', with_bbox=True)
train_pipeline = [
    _base_.load,
    load_annotations,
    _base_.flip,
    dict(_base_.resize, scales=scales),
    _base_.pack,
]
test_pipeline = [
    _base_.load,
    dict(type='Resize', scale=scales[-1], keep_ratio=True),
    load_annotations,
    _base_.pack_test,
]
folder = dict(
    type='resformer_mm.DetectionFolder',
    data_root=data_root,
    classes_file='annotations/instances_train.json',
)
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
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/annotations/instances_val.json')
test_evaluator = val_evaluator

resizes, flips = _base_.tta_pipeline[1].transforms[:2]
packs = _base_.tta_pipeline[1].transforms[3]
tta_pipeline = [
    _base_.load,
    dict(type='TestTimeAug', transforms=[resizes, flips, [load_annotations], packs]),
]
