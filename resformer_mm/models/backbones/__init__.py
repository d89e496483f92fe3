"""Backbones."""

from .resformer import ResFormer

__all__ = ['ResFormer']
