"""COCO 2017, resized to a short side of 480 to 800 pixels; half of the images are cropped first.

docs/data/coco.md says how to get the data and how to check it. One GPU holds 2 images, 8 GPUs make the 16 of a step. Half
of the images are resized to a short side of 400 to 600, cropped, and then resized like the others.
"""

data_root = 'data/coco'
short_sides = list(range(480, 801, 32))
long_side = 1333

scales = [(side, long_side) for side in short_sides]
load = dict(type='resformer_mm.LoadImage')
load_annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
flip = dict(type='RandomFlip', prob=0.5)
resize = dict(type='RandomChoiceResize', scales=scales, keep_ratio=True)
pack = dict(type='PackDetInputs')
pack_test = dict(pack, meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
train_pipeline = [
    load,
    load_annotations,
    flip,
    dict(
        type='RandomChoice',
        transforms=[
            [resize],
            [
                dict(resize, scales=[(side, long_side) for side in (400, 500, 600)]),
                dict(
                    type='RandomCrop',
                    crop_type='absolute_range',
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                resize,
            ],
        ],
    ),
    pack,
]
# The annotations are loaded after the resize: metrics are taken at their size.
test_pipeline = [
    load,
    dict(type='Resize', scale=scales[-1], keep_ratio=True),
    load_annotations,
    pack_test,
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='resformer_mm.COCO',
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='resformer_mm.COCO',
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='resformer_mm.CocoMetric',
    ann_file=f'{data_root}/annotations/instances_val2017.json',
    metric=['bbox', 'segm'],
)
test_evaluator = val_evaluator
