"""What several test folders share: the reference numbers and the marker of slow tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from torch import Tensor

import resformer_mm  # noqa: F401  before mmpretrain: makes torchvision importable on a CPU-only torch

GOLDEN = Path(__file__).parent / 'data' / 'official_d48_l2_h3_p16.npz'


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line('markers', "slow: takes seconds; leave out with -m 'not slow'")


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
