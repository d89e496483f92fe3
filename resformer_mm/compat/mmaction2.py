"""Makes mmaction2 1.2.0 importable beside a current mmcv.

mmaction2 1.2.0, the last release, has two defects:

1. ``mmaction/__init__.py`` asserts ``mmcv < 2.2.0``. What it uses of mmcv is there in the later
   versions as well, but the assertion stops the import. :func:`prepare_mmaction` lets that one
   import see an mmcv version that passes.
2. Its wheel lacks the folder ``mmaction/models/localizers/drn``, which the ``__init__.py`` beside
   it imports. :func:`prepare_mmaction` puts a module in its place whose ``DRN`` raises when built.
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

    Call it before the first ``import mmaction``, also when that import is left to MMEngine (a
    config with ``default_scope = 'mmaction'``). It is idempotent, and does nothing if mmaction2 is
    not installed, is of another version or has not the defect. Where mmcv is refused it imports
    ``mmaction`` (not ``mmaction.models``), because the check runs only then; afterwards
    ``mmcv.__version__`` is what it was.

    Returns:
        The workarounds applied by this call: any of 'mmcv-version' and 'drn'.

    Raises:
        ImportError: mmcv, which mmaction2 is built on, is not installed.
    """
    spec = find_spec('mmaction')
    if spec is None or not spec.submodule_search_locations or _installed_version() != _VERSION:
        return []
    applied = []
    if _stand_in_for_drn(Path(spec.submodule_search_locations[0])):
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
    """Import mmaction with an accepted mmcv version in sight; False if the real one is accepted."""
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


def _stand_in_for_drn(package: Path) -> bool:
    """Put an empty DRN where the wheel lacks the real one; False if there is one already."""
    if (package / 'models' / 'localizers' / 'drn').is_dir() or _DRN_PACKAGE in sys.modules:
        return False

    class DRN:
        """Stands where the wheel of mmaction2 1.2.0 lacks the real class."""

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
