"""States of the random generators of a process: Python, NumPy, PyTorch on the CPU and on the current GPU."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def capture_states() -> dict[str, Any]:
    """Return the states, in types that a checkpoint may hold: tensors, numbers and plain containers."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    states = {
        'python': random.getstate(),
        'numpy': (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached),
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def restore_states(states: dict[str, Any]) -> None:
    """Set the generators to the states that :func:`capture_states` returned."""
    version, internal, gauss = states['python']
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = states['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states['torch'].cpu())
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())


def seed_generators(*key: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch's CPU by a tuple of numbers that are not negative."""
    words = np.random.SeedSequence(key).generate_state(3, np.uint32)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    # Unlike torch.manual_seed, this leaves GPUs alone, which worker processes must not touch.
    torch.default_generator.manual_seed(int(words[2]))


@contextmanager
def preserved_states() -> Iterator[None]:
    """Undo what the block does to the generators."""
    states = capture_states()
    try:
        yield
    finally:
        restore_states(states)
