"""Suppresses the messages of PyTorch's profiler.

The profiler writes lines to the standard error stream: when a profile starts and stops (``STAGE:`` in PyTorch
2.1, ``USDT:`` in 2.13), when a build for CUDA exports a trace and finds no driver, and in all versions if
memory is released that was allocated before the profile. Its log level is read from the environment when
PyTorch is loaded, which is too early to be set here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from .error_stream import taken_from_stderr

__all__ = ['without_profiler_announcements']

_LINES = re.compile(
    rb'STAGE:|USDT:|ERROR:.*DeviceProperties\.cpp.*GetDeviceCount failed'
    rb'|\[W.* CPUAllocator\.cpp:\d+\] Memory block of unknown size'
)


@contextmanager
def without_profiler_announcements() -> Iterator[None]:
    """Buffer the standard error stream within the context, and remove the profiler's lines from it."""
    with taken_from_stderr(_LINES):
        yield
