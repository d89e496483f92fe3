"""Suppresses the messages of PyTorch's profiler.

Whenever a profile starts and stops, the profiler library writes lines to the standard error stream, which
begin with ``STAGE:`` in PyTorch 2.1 and with ``USDT:`` in 2.13. Its log level is read from the environment
when PyTorch is loaded, which is too early to be set here. Instead, the stream is buffered during the profile,
and all other output is written afterwards.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

__all__ = ['without_profiler_announcements']

_ANNOUNCEMENTS = (b'STAGE:', b'USDT:')


@contextmanager
def without_profiler_announcements() -> Iterator[None]:
    """Buffer the standard error stream within the context, and remove the profiler's lines from it."""
    if (2, 5) <= tuple(map(int, version('torch').split('.')[:2])) < (2, 13):
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
                if not line.startswith(_ANNOUNCEMENTS):
                    os.write(2, line)
