"""Keeps the announcements of PyTorch's profiler out of the terminal.

The profiler library of PyTorch 2.13 writes two lines beginning with ``USDT:`` to the standard error stream
whenever a profile starts and stops. Its log level is read from the environment when PyTorch is loaded, too
early to be set here; so the stream is held back for the time of the profile, and everything else that was
written to it follows afterwards.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

__all__ = ['without_profiler_announcements']

_ANNOUNCEMENT = b'USDT:'


@contextmanager
def without_profiler_announcements() -> Iterator[None]:
    """Hold the standard error stream back within the context, and drop the profiler's own lines from it."""
    if tuple(map(int, version('torch').split('.')[:2])) < (2, 13):
        yield
        return
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            held.seek(0)
            for line in held:
                if not line.startswith(_ANNOUNCEMENT):
                    os.write(2, line)
