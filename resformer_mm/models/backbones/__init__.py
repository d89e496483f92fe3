"""Backbones."""

from .frame_resformer import FrameResFormer
from .masked_resformer import MaskedResFormer
from .resformer import ResFormer
from .video_resformer import VideoResFormer

__all__ = ['FrameResFormer', 'MaskedResFormer', 'ResFormer', 'VideoResFormer']
