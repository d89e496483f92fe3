"""Predictions for people: one inferencer per task, each with the resolution as an argument."""

from .base import ResolutionInferencer
from .cascade import CascadeInferencer
from .classification import ClassificationInferencer
from .detection import DetectionInferencer
from .factory import make_inferencer
from .inputs import InputError
from .segmentation import SegmentationInferencer
from .video import VideoInferencer

__all__ = [
    'CascadeInferencer',
    'ClassificationInferencer',
    'DetectionInferencer',
    'InputError',
    'ResolutionInferencer',
    'SegmentationInferencer',
    'VideoInferencer',
    'make_inferencer',
]
