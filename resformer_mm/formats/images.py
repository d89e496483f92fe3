"""Image files below a folder: where those of an annotation file are, and how large they are."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from posixpath import normpath
from typing import TypeVar
from urllib.parse import parse_qs, urlparse

from resformer_mm.datasets.checks.images import IMAGE_ENDINGS
from resformer_mm.datasets.image_files import EXIF_ORIENTATION, opened_image
from resformer_mm.datasets.regular_files import list_files, read_file
from resformer_mm.datasets.splits import SPLITS
from resformer_mm.hidden_files import is_hidden
from resformer_mm.tasks.detection.file_names import find_files

from .annotated import CHANGED, NO_FILE, AnnotatedData, AnnotatedImage

Key = TypeVar('Key', bound=Hashable)
_HEX = frozenset('0123456789abcdef')


class ImageIndex:
    """The images below a folder, listed once. Files elsewhere are never found.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = sorted(
            name.replace(os.sep, '/')
            for name in list_files(root)
            if name.lower().endswith(IMAGE_ENDINGS) and not is_hidden(name)
        )
        self._known = set(self.names)

    def __contains__(self, name: str) -> bool:
        """Whether there is an image of this path relative to the folder."""
        return name in self._known

    def find(self, wanted: Mapping[Key, Sequence[str]], data: AnnotatedData, where: object) -> dict[Key, str]:
        """Return the paths of images relative to the folder, by the keys of what is wanted.

        An image is at the first of its likely places that exists. Else the last one is its name as written,
        of which the end may be certain: names of other systems, addresses and uploads, which is told. Images
        that are not found are left out.

        Args:
            wanted: key -> likely paths, relative to the folder, and the name as written.
            data: where it is told.
            where: the file of the names.
        """
        found: dict[Key, str] = {}
        for key, places in wanted.items():
            paths = [normpath(place.replace('\\', '/')) for place in places]
            path = next((path for path in paths if path in self._known), None)
            if path is not None:
                found[key] = path
        rest = {key: plain_name(places[-1]) for key, places in wanted.items() if key not in found and places}
        taken = set(found.values())
        free = [name for name in self.names if name not in taken]
        named = find_files(rest.values(), free, str(self.root), lambda name: False)
        for key, plain in rest.items():
            path = named.renamed.get(plain) or named.elsewhere.get(plain)
            path = path or (normpath(plain) if normpath(plain) in self._known else None)
            if path is not None:
                found[key] = path
        self._find_uploads({key: plain for key, plain in rest.items() if key not in found}, found)
        if guessed := [key for key in rest if key in found]:
            example = f'{wanted[guessed[0]][-1][:200]} as {found[guessed[0]]}'
            detail = f'{len(guessed)} images found by the end of their names, such as {example}'
            data.note(where, CHANGED, detail)
        return found

    def size(self, name: str) -> tuple[int, int]:
        """Return height and width of an image as displayed, from its header.

        Raises:
            OSError, ValueError: it is not an image, or too large.
        """
        return displayed_size(self.root / name)

    def image(self, name: str, data: AnnotatedData) -> AnnotatedImage | None:
        """Return an image without objects; None if it cannot be read, which is reported as a fault."""
        try:
            return AnnotatedImage(name, *self.size(name))
        except (OSError, ValueError) as error:
            data.fault(self.root / name, NO_FILE, f'{type(error).__name__}: {error}')
            return None

    def _find_uploads(self, rest: Mapping[Key, str], found: dict[Key, str]) -> None:
        """Find names to which an upload added eight digits and a hyphen."""
        taken = set(found.values())
        by_base: dict[str, list[str]] = defaultdict(list)
        for path in self.names:
            by_base[path.rpartition('/')[2]].append(path)
        for key, plain in rest.items():
            base = plain.rpartition('/')[2]
            if base[8:9] != '-' or not set(base[:8]) <= _HEX:
                continue
            paths = [path for path in by_base[base[9:]] if path not in taken]
            if len(paths) == 1:
                found[key] = paths[0]
                taken.add(paths[0])


def unpacked(root: Path) -> Path:
    """Return the folder inside a folder that has nothing else, as archives are unpacked; else the folder.

    A folder with images itself, or named after a split, is a part of the data.
    """
    while True:
        entries = [entry for entry in os.scandir(root) if not is_hidden(entry.name)]
        entries = [entry for entry in entries if not entry.name.lower().startswith(('readme', 'license'))]
        if (
            len(entries) != 1
            or not entries[0].is_dir(follow_symlinks=False)
            or entries[0].name.lower() in SPLITS
        ):
            return root
        inner = Path(entries[0].path)
        if any(entry.name.lower().endswith(IMAGE_ENDINGS) for entry in os.scandir(inner)):
            return root
        root = inner


def displayed_size(path: str | Path) -> tuple[int, int]:
    """Return height and width of an image after any EXIF rotation, from its header.

    Raises:
        OSError, ValueError: it is not an image, or too large.
    """
    with opened_image(read_file(path)) as image:
        turned = image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
        return (image.width, image.height) if turned else (image.height, image.width)


def plain_name(name: str) -> str:
    """Return the path in an address, such as ``/data/local-files/?d=a/b.jpg`` or ``s3://bucket/b.jpg``."""
    if 'local-files/?' in name:
        return parse_qs(urlparse(name).query).get('d', [name])[0]
    return urlparse(name).path.lstrip('/') if '://' in name and not name.startswith('file://') else name


def inside(name: str) -> str:
    """Return a path relative to a folder that does not lead out of it: other paths lose what leads out."""
    parts = [part for part in name.replace('\\', '/').split('/') if part not in ('', '.', '..')]
    return '/'.join(part.replace(':', '_') if index == 0 else part for index, part in enumerate(parts))
