"""Makes ``resformer_mm::FOLDER/CONFIG.py`` known to MMEngine.

``get_config('mmdet::...')``, ``get_model('mmdet::...')`` and ``_base_ = 'mmdet::...'`` look up configs of
installed packages. MMEngine 0.10 (upstream and fork) has a fixed table of the packages for which this works,
and no way to register another one. :func:`register_configs` adds a row.

The part before ``::`` of a base config is also the scope in which MMEngine resolves its types. The types in
the configs of this package belong to the library of the task, which each of them names with
``default_scope``. These base configs are therefore read without a scope, like those given by their path.
"""

from __future__ import annotations

__all__ = ['register_configs']

PACKAGE = 'resformer_mm'


def register_configs() -> bool:
    """Add this package to the table of MMEngine.

    This imports ``mmengine.config``, which does not import PyTorch.

    Returns:
        False if the table has the package already: through an earlier call, or because MMEngine knows it.
    """
    from mmengine.config import Config, utils

    if PACKAGE in utils.MODULE2PACKAGE:
        return False
    utils.MODULE2PACKAGE[PACKAGE] = PACKAGE
    find = Config._get_cfg_path

    def find_without_own_scope(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = find(cfg_path, filename)
        return path, None if scope == PACKAGE else scope

    Config._get_cfg_path = staticmethod(find_without_own_scope)
    return True
