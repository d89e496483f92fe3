"""Box AP on blood cells: several sizes against one in both stages of the training, and other detectors.

DATA is the folder that tools/dataset_converters/convert_annotations.py makes of BCCD (docs/domains.md);
trainings take its training split, tests its test split. The backbones start from the variants `plain` and
`single` of every_size with the same seed. Figures: docs/experiments.md.
"""

from __future__ import annotations

from experiment import CHECKPOINT, Experiment, Metric, Schedule, Variant
from image_data import AnnotatedFolder

CONFIG = 'configs/detection/resformer-mini_{}_{}_1xb8-12e_bccd.py'
THREE_SIDES, ONE_SIDE = (192, 160, 128), (192,)
"""Short sides of the training images in pixels."""


def detector(
    title: str,
    classifier: str | None = 'every_size/plain',
    sides: tuple[int, ...] = THREE_SIDES,
    kind: str = 'fcos',
) -> Variant:
    """Return a detector.

    Args:
        title: name in the table.
        classifier: the variant from which the backbone starts; None for random weights.
        sides: short sides of the training images in pixels, all or the largest alone.
        kind: that of the detector, as in the name of its config.
    """
    start = None if classifier is None else dict(checkpoint=CHECKPOINT)
    config = CONFIG.format('mr-64-48-32' if sides == THREE_SIDES else '64', kind)
    settings = dict(model=dict(backbone=dict(init_cfg=start)))
    return Variant(title, config, settings, sides, starts_from=classifier)


EXPERIMENT = Experiment(
    name='blood_cells',
    resolutions=(96, 128, 160, 192, 256, 320),
    schedule=Schedule(12),
    metrics={'ap50': Metric('coco/bbox_mAP_50', 100), 'ap': Metric('coco/bbox_mAP', 100)},
    data=AnnotatedFolder('BCCD_ROOT'),
    dtype='float32',
    variants={
        'mr': detector('classifier at 64, 48, 32'),
        'single-classifier': detector('classifier at 64', 'every_size/single'),
        'single-detector': detector('classifier at 64, 48, 32', sides=ONE_SIDE),
        'single': detector('classifier at 64', 'every_size/single', ONE_SIDE),
        'scratch': detector('random weights', None),
        'faster-rcnn': detector('Faster R-CNN, classifier at 64, 48, 32', kind='faster-rcnn'),
        'retinanet': detector('RetinaNet, classifier at 64, 48, 32', kind='retinanet'),
    },
)
