"""ResFormer for OpenMMLab: one vision transformer for every resolution, in classification and dense tasks."""

from . import compat
from .version import __version__

__all__ = ['__version__']

compat.apply()
