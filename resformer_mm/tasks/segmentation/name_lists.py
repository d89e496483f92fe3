"""Lists of images without suffixes, one per line, as mmsegmentation's data sets read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from resformer_mm.datasets.label_lists import PROBES, read_lines, unquoted
from resformer_mm.repairs import repair


def read_names(
    path: str, suffix: str, exists: Callable[[str], bool], backend_args: dict | None = None
) -> list[str]:
    """Return the names in a list, without those of empty lines.

    Quotes around names are repaired, and backslashes and the suffix of the images, where that finds the
    images.

    Args:
        path: the list file.
        suffix: suffix of the images, which the names should not have.
        exists: whether there is an image of a name without suffix; it is asked for a few of them.
        backend_args: file backend of MMEngine.

    Raises:
        LabelListError: the file is not a text file.
        StrictError: something has to be repaired, which strict mode refuses.
    """
    names = [line.strip() for line in read_lines(path, backend_args) if line.strip()]
    if quoted := sum(unquoted(name) != name for name in names):
        repair(path, 'paths in quotes: the quotes are not part of the path', quoted)
        names = [unquoted(name) for name in names]
    marked = [name for name in names if '\\' in name or name.endswith(suffix)]
    probes = marked[:: max(1, len(marked) // PROBES)]
    slashes, without = max(
        ((False, False), (True, False), (False, True), (True, True)),
        key=lambda changes: sum(exists(_changed(name, suffix, *changes)) for name in probes),
    )
    if slashes:
        count = sum('\\' in name for name in names)
        repair(path, 'paths with backslashes: read with forward slashes', count)
    if without:
        count = sum(name.endswith(suffix) for name in names)
        repair(path, 'names with the suffix of the images: read without it', count)
    return [_changed(name, suffix, slashes, without) for name in names]


def names_problem(names: Sequence[str]) -> str:
    """Return what is wrong with names without an image, as the end of a sentence; '' if it is unknown."""
    parts = names[0].replace(',', ' ').replace(';', ' ').split() if names else []
    if len(parts) < 2:
        return ''
    return f'. A line such as {names[0]!r} has {len(parts)} parts: write the name of an image without suffix'


def _changed(name: str, suffix: str, slashes: bool, without: bool) -> str:
    name = name.replace('\\', '/') if slashes else name
    return name.removesuffix(suffix) if without else name
