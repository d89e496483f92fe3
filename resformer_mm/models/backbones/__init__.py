"""Backbones."""

from .frame_resformer import FrameResFormer
from .resformer import ResFormer
from .video_resformer import VideoResFormer

__all__ = ['FrameResFormer', 'ResFormer', 'VideoResFormer']
