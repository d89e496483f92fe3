"""Facts of a report, and how failures become facts."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from textwrap import shorten

__all__ = ['Facts', 'describe_error', 'first_line']

LENGTH = 300

Facts = dict[str, 'str | list[str]']


def describe_error(error: BaseException) -> str:
    """Return the type of an error and the beginning of its message, in one line."""
    message = ' '.join(str(error).split())
    return f'{type(error).__name__}: {shorten(message, LENGTH, placeholder=" ...")}'.removesuffix(': ')


def first_line(command: Sequence[str]) -> str | None:
    """Return the first line that a command prints, or None if it cannot be run or fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip().partition('\n')[0]
