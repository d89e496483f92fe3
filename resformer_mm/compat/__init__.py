"""Workarounds for single versions of the dependencies.

Each one stands in a module of its own, names the version that needs it, checks for the defect
itself and does nothing where the defect is absent.
"""

from __future__ import annotations

from importlib.util import find_spec

from .mmaction2 import prepare_mmaction
from .torchvision_ops import declare_missing_ops

__all__ = ['apply', 'check_requirements', 'declare_missing_ops', 'prepare_mmaction']


def apply() -> None:
    """Check what the package cannot live without and apply the workarounds that must come first.

    Calling it again costs next to nothing. It imports PyTorch, but neither torchvision nor any
    library of OpenMMLab; :func:`prepare_mmaction` therefore is not part of it and is called by
    whoever is about to import mmaction.

    Raises:
        ImportError: PyTorch or MMEngine is not installed.
    """
    check_requirements()
    declare_missing_ops()


def check_requirements() -> None:
    """Raise if PyTorch or MMEngine, which no installation of this package brings along, is missing.

    Raises:
        ImportError: one of them is not installed; the message says how to get it.
    """
    if find_spec('torch') is None:
        raise ImportError(
            'resformer_mm needs PyTorch, which it never installs by itself, so that it cannot '
            'replace a build made for your machine. Install it, for example by `pip install torch`.'
        )
    if find_spec('mmengine') is None:
        raise ImportError(
            'resformer_mm needs MMEngine, which exists as `onedl-mmengine` (maintained fork) and '
            'as `mmengine` (upstream). Install one of them, for example by '
            "`pip install 'resformer-mm[onedl]'` or `pip install 'resformer-mm[openmmlab]'`."
        )
