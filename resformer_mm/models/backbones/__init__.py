"""Backbones."""

from .resformer import ResFormer
from .video_resformer import VideoResFormer

__all__ = ['ResFormer', 'VideoResFormer']
