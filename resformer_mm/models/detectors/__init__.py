"""Detectors, adapters to mmdetection."""

from .detectors import FCOS, CascadeRCNN, MaskRCNN, RetinaNet
from .float32_predictions import Float32Predictions
from .padding_aware import PaddingAware
from .padding_blind_heads import PaddingBlindHeads

__all__ = [
    'FCOS',
    'CascadeRCNN',
    'Float32Predictions',
    'MaskRCNN',
    'PaddingAware',
    'PaddingBlindHeads',
    'RetinaNet',
]
