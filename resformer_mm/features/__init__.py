"""Features of a frozen backbone, and what simple classifiers make of them."""

from .backbone import FrozenBackbone
from .data import LabelledImages
from .evaluation import Evaluation, Score, evaluate
from .extraction import extract, patch_map
from .storage import Features, read_features

__all__ = [
    'Evaluation',
    'Features',
    'FrozenBackbone',
    'LabelledImages',
    'Score',
    'evaluate',
    'extract',
    'patch_map',
    'read_features',
]
