"""Fixtures of several test folders, and the tiers of the tests.

``pytest`` runs the quick tests, ``pytest -m core`` those that need PyTorch and MMEngine alone, ``-m ''`` all.
The tier of a test follows from its folder or file; a single slow test is marked where it is defined. Where
mmcv has no compiled operators, or a library is not installed, the tests that need them are skipped: folders
as listed here, single tests by the marker ``operators``.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from torch import Tensor

import resformer_mm  # noqa: F401  before mmpretrain: makes torchvision importable on a CPU-only torch
from resformer_mm.operators import MissingOperatorsError, has_operators, require_operators

TESTS = Path(__file__).parent
GOLDEN = TESTS / 'data' / 'official_d48_l2_h3_p16.npz'

LIBRARIES = ('mmcv', 'mmpretrain', 'mmseg', 'mmdet', 'mmaction')
# Paths in the folder of the tests.
CORE = (
    'test_cascade',
    'test_checkpoints/test_conversion.py',
    'test_compat',
    'test_engine',
    'test_models',
    'test_sweep/test_record.py',
)
NOT_CORE = ('test_engine/test_hooks.py', 'test_engine/test_layer_decay.py')
# Libraries that may need the compiled operators of mmcv, which not every build of mmcv has.
OPERATORS = {
    'test_tasks/test_detection': 'mmdet',
    'test_tasks/test_new_task': 'mmseg',
    'test_tasks/test_segmentation': 'mmseg',
}
# They start processes, train, export, generate data, or build the models of all configs.
SLOW = (
    'test_browsing.py',
    'test_compat',
    'test_deployment',
    'test_examples',
    'test_hooks.py',
    'test_packaging.py',
    'test_registry.py',
    'test_runner_loading.py',
    'test_synthetic',
    'test_tools',
    'test_web',
    '*_cli.py',
    '*_configs.py',
    '*_data_tools.py',
    '*_distributed.py',
)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption('markexpr').split()[:1] == ['core']:
        # None makes an import fail as if the library were not installed.
        sys.modules.update(dict.fromkeys(LIBRARIES))


def pytest_report_header() -> str | None:
    if find_spec('mmcv') is None:
        return 'without mmcv and the libraries built on it: core tests alone'
    return None if has_operators() else 'mmcv without operators: tests that need them are skipped'


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not collection_path.name.startswith('test_') or collection_path.suffix != '.py':
        return None
    # What is not core imports the libraries; reading the files of slow tests alone takes seconds.
    if find_spec('mmcv') is None and not _is_core(collection_path):
        return True
    return True if config.getoption('markexpr') == 'not slow' and _lies_in(collection_path, SLOW) else None


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    for folder, library in OPERATORS.items():
        if _lies_in(module_path, (folder,)) and (reason := _why_unusable(library)):
            module = _SkippedModule.from_parent(parent, path=module_path)
            module.reason = reason
            return module
    return None


class _SkippedModule(pytest.Module):
    """A file of tests that is not imported, and is reported as skipped."""

    reason: str

    def collect(self) -> list[pytest.Item]:
        pytest.skip(self.reason, allow_module_level=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker('libraries'):
            if find_spec('mmcv') is None:
                item.add_marker(pytest.mark.skip('needs the OpenMMLab libraries'))
        elif _is_core(item.path):
            item.add_marker('core')
        if _lies_in(item.path, SLOW):
            item.add_marker('slow')
        for marker in item.iter_markers('operators'):
            for reason in filter(None, map(_why_unusable, marker.args)):
                item.add_marker(pytest.mark.skip(reason))


def pytest_collection_finish() -> None:
    # MMEngine collects garbage for every data set: with all libraries imported that takes 0.2 s each time,
    # and several seconds with what compilers keep.
    _freeze()


@pytest.fixture(scope='module', autouse=True)
def frozen_leftovers() -> Iterator[None]:
    yield
    if 'torch._dynamo' in sys.modules:
        torch.compiler.reset()
    _freeze()


def _freeze() -> None:
    gc.collect()
    gc.freeze()


def _is_core(path: Path) -> bool:
    return _lies_in(path, CORE) and not _lies_in(path, NOT_CORE)


@cache
def _why_unusable(library: str) -> str | None:
    """Why a library that a test needs cannot be used here, None if it can."""
    if find_spec(library) is None:
        return f'{library} is not installed'
    if library not in OPERATORS.values():
        return None
    try:
        require_operators(library)
    except MissingOperatorsError:
        return f'{library} needs the operators of mmcv, which is installed without them'
    return None


def _lies_in(path: Path, places: tuple[str, ...]) -> bool:
    inside = path.relative_to(TESTS)
    return any(part.match(place) for part in (inside, *inside.parents) for place in places)


def _scopes_as_found() -> Iterator[None]:
    # The scope in which names are looked up is global; a model of another library must not leave its own.
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


module_scopes = pytest.fixture(scope='module', autouse=True)(_scopes_as_found)
test_scopes = pytest.fixture(autouse=True)(_scopes_as_found)


@pytest.fixture(scope='session')
def golden() -> dict[str, Tensor]:
    """Reference numbers of the authors' code, by key."""
    with np.load(GOLDEN) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@pytest.fixture
def official_state(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of the reference model under the published names; a fresh copy."""
    prefix = 'state/'
    return {
        key.removeprefix(prefix): value.clone() for key, value in golden.items() if key.startswith(prefix)
    }
