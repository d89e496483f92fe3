"""The module that ``mmengine.hub.get_model('resformer_mm::...')`` imports; MMEngine prescribes its name."""

from __future__ import annotations

import importlib

__all__ = ['register_all_modules']


def register_all_modules(init_default_scope: bool = True) -> None:
    """Import the registries of this package, which import what they register when it is asked for.

    Args:
        init_default_scope: part of the signature that OpenMMLab's packages share. The scope is always that of
            the library of the task, which the configs name.
    """
    importlib.import_module('resformer_mm.registry')
    # Before the scope of the model makes MMEngine import the library.
    importlib.import_module('resformer_mm.compat').prepare_mmaction()
