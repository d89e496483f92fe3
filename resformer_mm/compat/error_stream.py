"""Lines that native code writes to the standard error stream, where Python has no say."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ['taken_from_stderr']


@contextmanager
def taken_from_stderr(pattern: re.Pattern[bytes]) -> Iterator[list[str]]:
    """Buffer the standard error stream of this process, and take out the lines that begin with a pattern.

    The block gets a list, which has these lines when the block has ended. All other lines are written then.

    Args:
        pattern: regular expression for the beginning of a line.
    """
    taken: list[str] = []
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield taken
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            held.seek(0)
            for line in held:
                if pattern.match(line):
                    taken.append(line.decode(errors='replace').rstrip())
                else:
                    os.write(2, line)
