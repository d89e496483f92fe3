"""Workarounds for specific versions of dependencies.

Each workaround is a separate module that names the affected version, checks for the defect itself, and does
nothing if the defect is absent.
"""

from __future__ import annotations

from importlib.util import find_spec

from .config_lookup import register_configs
from .mmaction2 import prepare_mmaction
from .quiet import quieten, runs_a_tool
from .terminal import protect_terminal
from .torchvision_ops import declare_missing_ops

__all__ = ['apply', 'check_requirements', 'declare_missing_ops', 'prepare_mmaction', 'register_configs']


def apply() -> None:
    """Check the required dependencies and apply the workarounds that must run before other imports.

    Repeated calls cost almost nothing. The function imports PyTorch and ``mmengine.config``, but not
    torchvision or any other library of OpenMMLab. It therefore does not include :func:`prepare_mmaction`,
    which must be called before importing mmaction.

    Raises:
        ImportError: PyTorch or MMEngine is not installed.
    """
    check_requirements()
    quieten()
    if runs_a_tool():
        protect_terminal()
    declare_missing_ops()
    register_configs()


def check_requirements() -> None:
    """Check that PyTorch and MMEngine, which are not installed with this package, are available.

    Raises:
        ImportError: one of them is not installed; the message explains how to install it.
    """
    if find_spec('torch') is None:
        raise ImportError(
            'resformer_mm needs PyTorch. It is not installed automatically, because that could replace a '
            'build made for your machine. Install it, for example with `pip install torch`.'
        )
    if find_spec('mmengine') is None:
        raise ImportError(
            'resformer_mm needs MMEngine, which is available as `onedl-mmengine` (maintained fork) and '
            'as `mmengine` (upstream). Install one of them, for example with '
            '`pip install onedl-mmengine` or `pip install mmengine`.'
        )
