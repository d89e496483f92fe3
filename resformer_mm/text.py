"""Lists and sizes as text."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence


def shorten_list(names: Collection[str]) -> str:
    """Return the first four names, and how many more there are."""
    names = list(names)
    return ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '')


def size_text(size: Sequence[int]) -> str:
    """Return '224' for a square, '224x320' (height x width) for a rectangle."""
    height, width = size
    return f'{height}' if height == width else f'{height}x{width}'


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) in pixels of '224' or '224x320'.

    Raises:
        ValueError: the text is neither, or a side is 0.
    """
    found = re.fullmatch(r'(\d+)(?:x(\d+))?', text)
    size = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if min(size) < 1:
        raise ValueError(f'{text!r} is not a size: give pixels, as 224 or (height x width) 224x320')
    return size
