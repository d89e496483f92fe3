"""Box AP alone, for detectors without masks; and testing at several scales with flips: tools/test.py --tta.

mmdet merges the boxes of several views, but not their masks.
"""

_base_ = 'coco.py'

val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator

tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.6), max_per_img=100))
tta_pipeline = [
    _base_.load,
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=scale, keep_ratio=True)
                for scale in ((1333, 640), (1333, 800), (1600, 960))
            ],
            [dict(_base_.flip, prob=prob) for prob in (0.0, 1.0)],
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(_base_.pack, meta_keys=(*_base_.pack_test.meta_keys, 'flip', 'flip_direction'))],
        ],
    ),
]
