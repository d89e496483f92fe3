"""ResFormer for OpenMMLab: one vision transformer for every resolution, in classification and dense tasks."""

from resformer_mm import compat
from resformer_mm.version import __version__

__all__ = ['__version__']

compat.apply()
