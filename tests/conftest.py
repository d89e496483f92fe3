"""What several test folders share: the reference numbers and the marker of slow tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import resformer_mm  # noqa: F401  before mmpretrain: makes torchvision importable on a CPU-only torch

GOLDEN = Path(__file__).parent / 'data' / 'official_d48_l2_h3_p16.npz'


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line('markers', "slow: takes seconds; leave out with -m 'not slow'")


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
