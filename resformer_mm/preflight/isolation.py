"""A context that leaves no trace: no output, no change of random numbers, scopes or loggers."""

from __future__ import annotations

import contextlib
import io
import random
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope

NAME = 'preflight'
# What MMEngine tells data preprocessors and heads whose work depends on the progress.
FIRST_STEP = dict(iter=0, epoch=0, max_iters=1, max_epochs=1)


@contextlib.contextmanager
def isolated(seed: int = 0) -> Iterator[None]:
    """Run the block silently, with a fixed seed, and restore what it changes globally.

    The training that follows builds the same things, and tells what there is to tell.

    Args:
        seed: seed of the random generators within the block.
    """
    scopes = dict(DefaultScope._instance_dict)
    numbers = random.getstate(), np.random.get_state()
    MMLogger.get_instance(NAME, log_level='CRITICAL')
    progress = MessageHub.get_instance(NAME)
    for name, value in FIRST_STEP.items():
        progress.update_info(name, value)
    try:
        with (
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter('ignore')
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
    finally:
        for kind in (MMLogger, MessageHub):
            kind._instance_dict.pop(NAME, None)
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])
        DefaultScope._instance_dict.clear()
        DefaultScope._instance_dict.update(scopes)
