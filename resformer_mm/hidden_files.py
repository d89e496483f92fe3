"""Files and folders of operating systems and programs, which are not data."""

from __future__ import annotations

import re
from collections.abc import Iterable

from resformer_mm.repairs import remark
from resformer_mm.text import shorten_list

# Archives of macOS, network drives, thumbnails, recycle bins, and caches; a leading dot is hidden everywhere.
_NAMES = (
    '__macosx',
    '__pycache__',
    '@eadir',
    '@recycle',
    '@tmp',
    '#recycle',
    '#snapshot',
    '$recycle.bin',
    'system volume information',
    'lost+found',
    'thumbs.db',
    'ehthumbs.db',
    'desktop.ini',
    'icon\r',
)
# One search a path, because a data set has millions of them; `.` and `..` are not names.
_HIDDEN = re.compile(
    rf'(?:^|[/\\])(?:\.(?!\.?(?:[/\\]|$))|(?:{"|".join(map(re.escape, _NAMES))})(?:[/\\]|$))', re.IGNORECASE
)


def is_hidden(path: str) -> bool:
    """Whether a file or folder, or a folder that it is in, is hidden or belongs to an operating system.

    Args:
        path: relative to the folder of the data, with any separator.
    """
    return _HIDDEN.search(path) is not None


def visible(where: object, names: Iterable[str], what: str = 'files') -> list[str]:
    """Return the names that are not hidden, in order, and tell once how many were left out.

    Args:
        where: the folder, for the message.
        names: files or folders, relative to it.
        what: what the names are, in the plural.
    """
    kept: list[str] = []
    hidden: list[str] = []
    for name in names:
        (hidden if is_hidden(name) else kept).append(name)
    if hidden:
        remark(where, f'hidden {what} left out: {len(hidden)} ({shorten_list(hidden)})')
    return kept
