"""Class folders that have folders of images instead of images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from resformer_mm.text import shorten_list


def nested_text(folder: str, names: Iterable[str]) -> str | None:
    """Return how many folders a class folder has, if it has all of its images in several; else None.

    Args:
        folder: name of the class folder.
        names: its images, relative to it.
    """
    inside = sorted({name.partition('/')[0] if '/' in name else '' for name in names})
    if len(inside) < 2 or '' in inside:
        return None
    return (
        f'the images of {folder} are in {len(inside)} folders ({shorten_list(inside)}), which are one class: '
        'move them up if they are classes'
    )


def by_folder(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names ``FOLDER/REST`` by folder, without it."""
    found = defaultdict(list)
    for name in names:
        folder, _, rest = name.partition('/')
        found[folder].append(rest)
    return found
