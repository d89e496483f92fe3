"""Checkpoints: safe reading, conversion in both directions, and loading with a report."""

from .architecture import Architecture, infer_architecture
from .conversion import Conversion, architecture_of, convert_file, convert_weights, reverse_weights
from .loading import load_pretrained
from .reading import CheckpointError, Weights, read_weights
from .report import Report

__all__ = [
    'Architecture',
    'CheckpointError',
    'Conversion',
    'Report',
    'Weights',
    'architecture_of',
    'convert_file',
    'convert_weights',
    'infer_architecture',
    'load_pretrained',
    'read_weights',
    'reverse_weights',
]
