"""Formatting of lists, sizes and tables, and parsing of sizes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from io import StringIO
from typing import Literal

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from resformer_mm.control_characters import printable, printable_name


def shorten_list(names: Collection[str]) -> str:
    """Return the first four names, and how many more there are."""
    shown = ', '.join(map(printable_name, list(names)[:4]))
    return shown + (f' and {len(names) - 4} more' if len(names) > 4 else '')


def table(
    header: Sequence[object],
    rows: Iterable[Sequence[object]],
    justify: Literal['left', 'right'] = 'left',
    markdown: bool = True,
) -> str:
    """Return a table with aligned columns, in Markdown, or plain for a terminal."""
    # Text, because rich interprets brackets in a string as markup.
    columns = [Column(Text(str(name)), justify=justify) for name in header]
    box, padding = (MARKDOWN, (0, 1)) if markdown else (None, (0, 2, 0, 0))
    drawn = Table(*columns, box=box, padding=padding)
    for row in rows:
        drawn.add_row(*(Text(printable(str(cell))) for cell in row))
    text = StringIO()
    # Wide enough that no cell is wrapped; in a notebook, rich would show the table instead of writing it.
    Console(width=10_000, file=text, force_jupyter=False).print(drawn)
    return '\n'.join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


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
        raise ValueError(f'{text!r} is not a size: give pixels, e.g. 224 or (height x width) 224x320')
    return size
