"""Data preprocessors, adapters to mmpretrain."""

from .multi_resolution import MultiResolutionDataPreprocessor

__all__ = ['MultiResolutionDataPreprocessor']
