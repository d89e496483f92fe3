"""Detectors, adapters to mmdetection."""

from .detectors import FCOS, CascadeRCNN, MaskRCNN, RetinaNet
from .padding_aware import PaddingAware

__all__ = ['FCOS', 'CascadeRCNN', 'MaskRCNN', 'PaddingAware', 'RetinaNet']
