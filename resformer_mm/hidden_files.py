"""Files and folders of operating systems and programs, which are not data."""

from __future__ import annotations

import re
from collections.abc import Iterable

from resformer_mm.repairs import remark
from resformer_mm.text import shorten_list

# Archives of macOS, network drives, thumbnails, recycle bins, and caches; a leading dot is hidden everywhere.
_NAMES = frozenset(
    {
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
    }
)


def is_hidden(path: str) -> bool:
    """Whether a file or folder, or a folder that it is in, is hidden or belongs to an operating system.

    Args:
        path: relative to the folder of the data, with any separator.
    """
    parts = (part for part in re.split(r'[/\\]', path) if part not in ('', '.', '..'))
    return any(part.startswith('.') or part.lower() in _NAMES for part in parts)


def visible(where: object, names: Iterable[str], what: str = 'files') -> list[str]:
    """Return the names that are not hidden, in order, and tell once how many were left out.

    Args:
        where: the folder, for the message.
        names: files or folders, relative to it.
        what: what the names are, in the plural.
    """
    names = list(names)
    if hidden := [name for name in names if is_hidden(name)]:
        remark(where, f'left out {len(hidden)} hidden {what}: {shorten_list(hidden)}')
    return [name for name in names if not is_hidden(name)]
