"""ADE20K as the DeiT baselines of mmsegmentation use it: crops of 512, scaled by 0.5 to 2.

docs/data/ade20k.md says how to get the data and how to check it. One GPU holds 2 images, 8 GPUs make the 16 of a step.
"""

crop = 512
data_root = 'data/ade/ADEChallengeData2016'

load = dict(type='resformer_mm.LoadImage')
load_labels = dict(type='resformer_mm.LoadSegMap')
resize = dict(type='Resize', scale=(2048, crop), keep_ratio=True)
pack = dict(type='PackSegInputs')
train_pipeline = [
    load,
    load_labels,
    dict(type='RandomResize', scale=(2048, crop), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(crop, crop), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='resformer_mm.PhotoMetricDistortion'),
    pack,
]
# The labels are loaded after the resize: metrics are taken at the size of the annotation.
test_pipeline = [load, resize, load_labels, pack]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='resformer_mm.ADE20K',
        data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='resformer_mm.ADE20K',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

# Multi-scale and flip testing: tools/test.py --tta
tta_model = dict(type='SegTTAModel')
tta_scales = [
    dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
]
tta_flips = [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)]
tta_pipeline = [
    load,
    dict(type='TestTimeAug', transforms=[tta_scales, tta_flips, [load_labels], [pack]]),
]
