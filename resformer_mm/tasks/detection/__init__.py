"""Object detection and instance segmentation with mmdetection."""

LIBRARY = 'mmdet'
MODELS = {
    'CascadeRCNN': 'detectors',
    'FCOS': 'detectors',
    'MaskRCNN': 'detectors',
    'RetinaNet': 'detectors',
}
DATASETS = {'COCO': 'coco', 'DetectionFolder': 'coco'}
METRICS = {'CocoMetric': 'metric'}
