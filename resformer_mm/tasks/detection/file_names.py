"""File names in annotation files that were written for other folders or systems."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import join, normpath, relpath
from typing import Any
from urllib.parse import unquote

from mmengine import fileio

from resformer_mm.datasets.image_files import EXIF_ORIENTATION, opened_image
from resformer_mm.datasets.regular_files import list_files

from .repairing import Repair, Size, fill_sizes

BACKSLASHES = 'file names with backslashes: read with slashes'
ADDRESSES = 'file names written as addresses (file://, %20): read as file names'
BLANKS = 'file names with blanks around them: read without'
CASE = 'file names that differ from the files in upper and lower case: read as the files are named'
OWN_FOLDER = 'file names that repeat the folder of the images: read without it'


@dataclass
class FoundNames:
    """File names of an annotation file, and the files that they stand for.

    Attributes:
        number: number of names.
        renamed: name in the annotation file -> name of the only file that it can stand for.
        repairs: kinds of differences between these, counted.
        missing: names that stand for no file with certainty.
        elsewhere: missing name -> the only file of the same base name.
    """

    number: int = 0
    renamed: dict[str, str] = field(default_factory=dict)
    repairs: list[Repair] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    elsewhere: dict[str, str] = field(default_factory=dict)

    def changed_parts(self) -> dict[tuple[str, str], int]:
        """Return (beginning of the names, folder in its place) -> number of missing names."""
        return dict(Counter(_different_part(*pair) for pair in self.elsewhere.items()).most_common())


def strip_prefixes(name: str, prefixes: Sequence[str]) -> str:
    """Return a file name without the longest of the prefixes that fits; either kind of slash does."""
    for prefix in sorted(prefixes, key=len, reverse=True):
        if _slashes(name).startswith(_slashes(prefix)):
            return name[len(prefix) :].lstrip('/\\')
    return name


def find_images(
    content: Any, folder: str, prefixes: Sequence[str] = (), backend_args: dict | None = None
) -> FoundNames:
    """Find the files of all images, and write their names, and sizes that lack, into the entries in place.

    Args:
        content: the decoded JSON.
        folder: folder of the images; it is listed once.
        prefixes: see :func:`strip_prefixes`.
        backend_args: file backend of MMEngine, for storage other than local files.
    """
    entries = content.get('images') if isinstance(content, Mapping) else None
    images = [
        image
        for image in (entries if isinstance(entries, list) else [])
        if isinstance(image, dict) and image.get('file_name') and isinstance(image['file_name'], str)
    ]
    for image in images:
        image['file_name'] = strip_prefixes(image['file_name'], prefixes)

    def exists(name: str) -> bool:
        # Other addresses below a folder confuse MMEngine's search for their backend.
        return '://' not in name and fileio.isfile(join(folder, name), backend_args=backend_args)

    listed = list_files(folder, backend_args=backend_args)
    found = find_files((image['file_name'] for image in images), listed, folder, exists)
    for image in images:
        image['file_name'] = found.renamed.get(image['file_name'], image['file_name'])

    def size_of(name: str) -> Size | None:
        return size_in_header(fileio.get(join(folder, name), backend_args)) if exists(name) else None

    found.repairs += fill_sizes(images, size_of)
    return found


def size_in_header(raw: bytes) -> Size | None:
    """Return height and width of an image from its header.

    Returns None if it is not an image, or if an EXIF tag rotates it: the boxes may refer to either size.
    """
    try:
        with opened_image(raw) as image:
            turned = image.getexif().get(EXIF_ORIENTATION, 1) > 1
            return None if turned else (image.height, image.width)
    except Exception:  # Pillow raises many types for bytes that are not an image
        return None


def base_name(name: str) -> str:
    """Return the file name at the end of a path as any system or export writes it, in lower case."""
    return _plain(name)[0].rpartition('/')[2].lower()


def find_files(
    names: Iterable[str], listed: Iterable[str], folder: str, exists: Callable[[str], bool]
) -> FoundNames:
    """Find the files of an annotation file.

    A name is certain if, read with slashes, without address syntax, surrounding blanks, the folder's own name
    or regard to upper and lower case, exactly one file has it, and no other entry stands for this file.

    Args:
        names: file names in the annotation file.
        listed: names of all files below the folder.
        folder: folder of the images.
        exists: whether there is a file of a name relative to the folder, which may point out of it.
    """
    files = {normpath(name) for name in listed}
    names = list(dict.fromkeys(names))
    unknown = [name for name in names if normpath(name) not in files and not exists(name)]
    if not unknown:
        return FoundNames(len(names))
    claimed = Counter(normpath(name) for name in names)
    lower: dict[str, list[str]] = defaultdict(list)
    bases: dict[str, list[str]] = defaultdict(list)
    for file in files:
        lower[file.lower()].append(file)
        bases[file.rpartition('/')[2].lower()].append(file)
    guesses = {name: _guess(name, files, lower, folder, exists) for name in unknown}
    claimed.update(guess[0] for guess in guesses.values() if guess is not None)
    found, kinds = FoundNames(len(names)), Counter[str]()
    for name, guess in guesses.items():
        if guess is not None and claimed[guess[0]] == 1:
            found.renamed[name] = guess[0]
            kinds.update(guess[1])
        else:
            found.missing.append(name)
    found.repairs = [Repair(what, count) for what, count in kinds.items()]
    matches = {name: bases[base_name(name)] for name in found.missing}
    times = Counter(file for files in matches.values() for file in files)
    found.elsewhere = {
        name: files[0] for name, files in matches.items() if len(files) == 1 and times[files[0]] == 1
    }
    return found


def advice(found: FoundNames, image_folder: Callable[[str], str]) -> str:
    """Return how missing files that exist elsewhere can be found; empty if there are none.

    Args:
        found: result of :func:`find_files`.
        image_folder: function from a folder below that of the images to its value as ``data_prefix.img``.
    """
    parts = found.changed_parts()
    if not parts:
        return ''
    count = 'all of them' if len(found.elsewhere) == len(found.missing) else f'{len(found.elsewhere)} of them'
    targets = {target for _, target in parts}
    prefixes = [prefix for prefix, _ in parts if prefix]
    [example] = list(found.elsewhere.items())[:1]
    text = f'By base name {count} exist, {example[0]!r} as {example[1]!r}: '
    if len(targets) > 1 or (prefixes and len(prefixes) < len(parts)):
        return f'{text}correct file_name in the annotation file, or data_prefix.img of the data set'
    settings = []
    if prefixes:
        shown = repr(prefixes[0]) if len(prefixes) == 1 else repr(prefixes)
        settings.append(f'strip_prefix={shown}')
    if (target := targets.pop()) != '':
        settings.append(f'data_prefix=dict(img={image_folder(target)!r})')
    return f'{text}set {" and ".join(settings)} of the data set'


def image_prefix(folder: str, below: str, data_root: str | None) -> str:
    """Return the value of ``data_prefix.img`` for a folder below that of the images."""
    path = normpath(join(folder, below))
    return relpath(path, data_root) if data_root else path


def _slashes(name: str) -> str:
    return name.replace('\\', '/')


def _plain(name: str) -> tuple[str, list[str]]:
    """Return a name with slashes and without blanks and address syntax, and what was changed."""
    plain, kinds = name, []
    if plain != plain.strip():
        plain = plain.strip()
        kinds.append(BLANKS)
    if '\\' in plain:
        plain = _slashes(plain)
        kinds.append(BACKSLASHES)
    address = unquote(plain.removeprefix('file://'))
    if address != plain:
        plain = address
        kinds.append(ADDRESSES)
    return normpath(plain), kinds


def _guess(
    name: str,
    files: set[str],
    lower: dict[str, list[str]],
    folder: str,
    exists: Callable[[str], bool],
) -> tuple[str, list[str]] | None:
    """Return the only file that a name can stand for and the kinds of differences; None if there is none."""
    plain, kinds = _plain(name)
    if kinds and (plain in files or exists(plain)):
        return plain, kinds
    for shorter, more in ((plain, []), *((rest, [OWN_FOLDER]) for rest in _without_folder(plain, folder))):
        if shorter in files:
            return shorter, kinds + more
        alike = lower.get(shorter.lower(), [])
        if len(alike) == 1:
            return alike[0], [*kinds, *more, CASE]
    return None


def _without_folder(name: str, folder: str) -> Iterable[str]:
    """Yield a name without the last parts of the folder's path, if it begins with them."""
    parts, tail = name.split('/'), _slashes(normpath(folder)).split('/')
    for length in range(1, min(len(parts), len(tail) + 1)):
        if parts[:length] == tail[-length:]:
            yield '/'.join(parts[length:])


def _different_part(name: str, file: str) -> tuple[str, str]:
    """Return what precedes the common end of a name in the annotation file and of its file."""
    ours, theirs = _slashes(name), file
    mine, others = ours.split('/'), theirs.split('/')
    common = 1  # the base name
    while common < min(len(mine), len(others)) and mine[-common - 1] == others[-common - 1]:
        common += 1
    prefix, folder = '/'.join(mine[:-common]), '/'.join(others[:-common])
    return (f'{prefix}/' if prefix or ours.startswith('/') else ''), folder
