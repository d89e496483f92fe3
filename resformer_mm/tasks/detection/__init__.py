"""Object detection and instance segmentation with mmdetection."""

from resformer_mm.libraries import adapters_of

LIBRARY = 'mmdet'
MODELS = {
    'CascadeRCNN': 'detectors',
    'FCOS': 'detectors',
    'FasterRCNN': 'detectors',
    'MaskRCNN': 'detectors',
    'RetinaNet': 'detectors',
}
DATASETS = {'COCO': 'coco', 'DetectionFolder': 'coco'}
METRICS = {'CocoMetric': 'metric'}
VISUALIZERS = {'ObjectVisualizer': 'visualizer'}

__getattr__ = adapters_of(globals())
