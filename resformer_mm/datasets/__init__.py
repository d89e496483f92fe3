"""Data: samplers and collate functions; data sets and transforms are imported when they are asked for."""

from .collate import multi_resolution_collate
from .samplers import ResolutionBatchSampler, ResolutionIndex

__all__ = ['ResolutionBatchSampler', 'ResolutionIndex', 'multi_resolution_collate']
