"""Texts of configs, one per task, with the fields of :mod:`resformer_mm.finetuning.writing`."""

from .classification import CLASSIFICATION
from .detection import DETECTION
from .segmentation import SEGMENTATION
from .video import VIDEO

TEMPLATES = {
    'classification': CLASSIFICATION,
    'detection': DETECTION,
    'segmentation': SEGMENTATION,
    'video': VIDEO,
}

__all__ = ['TEMPLATES']
