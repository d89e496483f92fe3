"""Batch augmentations, adapters to mmpretrain."""

from .multi_resolution_mix import MultiResolutionMix

__all__ = ['MultiResolutionMix']
