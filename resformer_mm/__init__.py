"""ResFormer for OpenMMLab: one vision transformer for every resolution, in classification and dense tasks."""

import importlib
import sys
from typing import TYPE_CHECKING

from resformer_mm import compat
from resformer_mm.version import __version__

if TYPE_CHECKING:
    from resformer_mm.apis.inferencer import make_inferencer
    from resformer_mm.checkpoints.models import load_model
    from resformer_mm.models import ResFormer, VideoResFormer

__all__ = ['ResFormer', 'VideoResFormer', '__version__', 'load_model', 'make_inferencer']

# Imported on first use: the inferencers need mmcv, and command lines should show their help at once.
_LAZY = {
    'ResFormer': 'resformer_mm.models',
    'VideoResFormer': 'resformer_mm.models',
    'load_model': 'resformer_mm.checkpoints.models',
    'make_inferencer': 'resformer_mm.apis.inferencer',
}

# The report on the environment must start where a requirement is missing. While Python locates the module of
# `python -m`, the first argument is '-m'.
if not (sys.argv[:1] == ['-m'] and f'{__name__}.collect_env' in sys.orig_argv):
    compat.apply()


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
