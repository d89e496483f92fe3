"""Makes mmaction2 1.2.0 importable with a current mmcv.

mmaction2 1.2.0, the last release, has two defects:

1. ``mmaction/__init__.py`` asserts ``mmcv < 2.2.0``. Later versions still have everything that mmaction uses,
   but the assertion stops the import. :func:`prepare_mmaction` shows this import an accepted mmcv version.
2. Its wheel lacks the folder ``mmaction/models/localizers/drn``, which ``mmaction.models.localizers``
   imports. :func:`prepare_mmaction` provides a placeholder module whose ``DRN`` raises when built.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec, module_from_spec
from pathlib import Path

__all__ = ['prepare_mmaction']

_VERSION = '1.2.0'
_FIRST_REFUSED_MMCV = (2, 2)
_ACCEPTED_MMCV = '2.1.0'
_DRN_PACKAGE = 'mmaction.models.localizers.drn'


def prepare_mmaction() -> list[str]:
    """Make ``import mmaction`` and ``import mmaction.models`` work with mmaction2 1.2.0.

    Call it before the first ``import mmaction``, even if MMEngine performs that import (for a config with
    ``default_scope = 'mmaction'``). It is idempotent, and does nothing if mmaction2 is not installed, has
    another version or does not have the defects. If mmcv would be rejected, it imports ``mmaction`` (not
    ``mmaction.models``), because the check only runs during this import, and then restores
    ``mmcv.__version__``.

    Returns:
        The workarounds applied by this call: any of 'mmcv-version' and 'drn'.

    Raises:
        ImportError: mmcv, which mmaction2 requires, is not installed.
    """
    spec = find_spec('mmaction')
    if spec is None or not spec.submodule_search_locations or _installed_version() != _VERSION:
        return []
    applied = []
    if _add_drn_placeholder(Path(spec.submodule_search_locations[0])):
        applied.append('drn')
    if 'mmaction' not in sys.modules and _import_past_the_mmcv_check():
        applied.append('mmcv-version')
    return applied


def _installed_version() -> str | None:
    try:
        return version('mmaction2')
    except PackageNotFoundError:
        return None


def _import_past_the_mmcv_check() -> bool:
    """Import mmaction while mmcv reports an accepted version; False if the real version is accepted."""
    import mmcv

    true_version = mmcv.__version__
    if tuple(int(part) for part in true_version.split('.')[:2]) < _FIRST_REFUSED_MMCV:
        return False
    mmcv.__version__ = _ACCEPTED_MMCV
    try:
        importlib.import_module('mmaction')
    finally:
        mmcv.__version__ = true_version
    return True


def _add_drn_placeholder(package: Path) -> bool:
    """Add a placeholder for the DRN module that the wheel lacks; False if the module already exists."""
    if (package / 'models' / 'localizers' / 'drn').is_dir() or _DRN_PACKAGE in sys.modules:
        return False

    class DRN:
        """Placeholder for the class that is missing from the wheel of mmaction2 1.2.0."""

        def __init__(self, *args, **kwargs) -> None:
            raise NotImplementedError(
                f'DRN is missing from the wheel of mmaction2 {_VERSION}: install it from source.'
            )

    outer = module_from_spec(ModuleSpec(_DRN_PACKAGE, None, is_package=True))
    inner = module_from_spec(ModuleSpec(f'{_DRN_PACKAGE}.drn', None))
    vars(inner)['DRN'] = DRN
    vars(outer)['drn'] = inner
    sys.modules[outer.__name__] = outer
    sys.modules[inner.__name__] = inner
    return True
