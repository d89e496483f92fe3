"""Pascal VOC: an XML file per image with boxes, in pixels that count from 1."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from resformer_mm.datasets.label_lists import LabelListError, read_lines
from resformer_mm.datasets.regular_files import list_files
from resformer_mm.datasets.splits import split_of
from resformer_mm.files import write_atomically
from resformer_mm.hidden_files import is_hidden

from .annotated import (
    CHANGED,
    NO_FILE,
    NO_IMAGE,
    NO_OBJECT,
    UNKNOWN_CLASS,
    UNREAD,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSplit,
    FormatError,
    sorted_classes,
    training_first,
)
from .geometry import box_of_corners
from .images import ImageIndex
from .json_files import is_finite, looks_like
from .xml_files import LineElement, read_xml, text_of

LISTS = 'ImageSets/Main'
NAMES = 'labelmap.txt'
_NAME_FILES = (NAMES, 'classes.txt', 'labels.txt')
_FLAGS = ('difficult', 'truncated', 'occluded')
_FIRST = 20


def is_found(root: Path) -> bool:
    """Whether a folder or its subfolders have XML files of single images."""
    files = [root / name for name in _xml_files(root)[:_FIRST]]
    # The older format of LabelMe's web page has points instead of boxes.
    return any(
        looks_like(file, b'<annotation', b'<filename')
        and (looks_like(file, b'<bndbox') or not looks_like(file, b'<pt>'))
        for file in files
    )


def read(root: Path) -> AnnotatedData:
    """Read boxes, as integers or fractions.

    Coordinates count from 1, as in Pascal VOC: the first pixel of an image has the box 1, 1, 1, 1. If one of
    them is 0, all count from 0.
    """
    data, index = AnnotatedData(), ImageIndex(root)
    roots: dict[str, LineElement] = {}
    for name in _xml_files(root):
        try:
            element = read_xml(root / name)
        except (FormatError, OSError) as error:
            data.fault(root / name, NO_FILE, str(error))
            continue
        if element.tag == 'annotation':
            roots[name] = element
    known = _class_list(data, root)
    offset = 0 if any(map(_counts_from_zero, roots.values())) else 1
    if not offset:
        data.note(root, CHANGED, 'some coordinates are 0, so they count from 0, not from 1 as in Pascal VOC')
    found = index.find({name: _places(name, element) for name, element in roots.items()}, data, root)
    splits = _splits(root, roots)
    parts: dict[str, AnnotatedSplit] = {}
    unread: Counter[str] = Counter()
    for name, element in roots.items():
        if name not in found:
            detail = f'there is no image {text_of(element, "filename") or name}: add it, or remove the file'
            data.fault(root / name, NO_IMAGE, detail)
            continue
        image = index.image(found[name], data)
        if image is None or data.has_other_size(root / name, '', _size(element), image):
            continue
        for entry in element.iter('object'):
            thing = _object(data, root / name, entry, offset, known, unread)
            if thing is not None:
                image.objects.append(thing)
        for split in splits[name]:
            parts.setdefault(split, AnnotatedSplit(split, root)).images.append(image)
    data.counted(root, UNREAD, unread)
    data.splits = sorted(parts.values(), key=training_first)
    data.classes = sorted_classes(data, known)
    return data


def write(data: AnnotatedData, out: Path) -> Counter[str]:
    """Write ``Annotations``, ``ImageSets/Main``, ``labelmap.txt`` and no images; return what is lost."""
    lost: Counter[str] = Counter()
    taken: dict[str, str] = {}
    for split in data.splits:
        stems = []
        for image in split.images:
            stem = image.file_name.rpartition('.')[0] or image.file_name
            before = taken.setdefault(stem, image_path(split.name, image.file_name))
            if before != image_path(split.name, image.file_name):
                raise FormatError(
                    f'{before} and {image.file_name} would both have the file {stem}.xml: rename one'
                )
            stems.append(stem)
            with write_atomically(out / 'Annotations' / f'{stem}.xml') as path:
                tree = ElementTree(_element(image, lost))
                indent(tree)
                tree.write(path, encoding='utf-8')
        with write_atomically(out / LISTS / f'{split.name or "trainval"}.txt') as path:
            path.write_text(''.join(f'{stem}\n' for stem in stems), encoding='utf-8')
    with write_atomically(out / NAMES) as path:
        lines = ['# label:color_rgb:parts:actions\n', *(f'{name}:::\n' for name in data.classes)]
        path.write_text(''.join(lines), encoding='utf-8')
    return +lost


def image_path(split: str, name: str) -> str:
    """Return the path of an image in what :func:`write` makes."""
    return f'JPEGImages/{name}'


def _xml_files(root: Path) -> list[str]:
    return [name.replace(os.sep, '/') for name in sorted(list_files(root, '.xml')) if not is_hidden(name)]


def _places(name: str, element: Element) -> list[str]:
    """Return where the image of a file may be: by its `filename`, else by the name of the file."""
    folder, _, stem = name.rpartition('/')
    file = text_of(element, 'filename').replace('\\', '/')
    beside = folder.replace('Annotations', 'JPEGImages')
    images = folder.replace('Annotations', 'images').replace('annotations', 'images')
    stem = stem.removesuffix('.xml')
    names = [file, *(f'{stem}{suffix}' for suffix in ('.jpg', '.png', '.jpeg', '.JPG', '.bmp'))]
    folders = [beside, images, folder, text_of(element, 'folder'), '']
    places = [f'{place}/{image}'.lstrip('/') for image in names if image for place in folders]
    return [*places, file or f'{stem}.jpg']


def _splits(root: Path, names: dict[str, LineElement]) -> dict[str, list[str]]:
    """Return the splits of each file: those of the lists, else of its folder; [''] without any."""
    found: dict[str, list[str]] = defaultdict(list)
    lists = {path.stem: path for path in sorted((root / LISTS).glob('*.txt'))}
    wanted = [name for name in ('train', 'val', 'test') if name in lists]
    by_stem = {name.partition('Annotations/')[2].removesuffix('.xml'): name for name in names}
    for split in wanted:
        for line in read_lines(str(lists[split])):
            if line.strip() and (name := by_stem.get(line.split()[0])) is not None:
                found[name].append(split)
    rest = [name for name in names if name not in found]
    for name in rest:
        known = split_of(name)
        found[name] = [known] if known else [] if found.keys() - rest else ['']
    if any(found.values()):
        return found
    return {name: [''] for name in names}


def _class_list(data: AnnotatedData, root: Path) -> tuple[str, ...]:
    """Return the names of a list beside the annotations; empty without one."""
    file = next((root / name for name in _NAME_FILES if (root / name).is_file()), None)
    if file is None:
        return ()
    try:
        lines = [line.strip() for line in read_lines(str(file)) if line.strip() and line[0] != '#']
    except LabelListError as error:
        data.fault(file, NO_FILE, str(error))
        return ()
    names = [line.rsplit(':', 3)[0] if line.count(':') >= 3 else line for line in lines]
    return tuple(dict.fromkeys(name for name in names if name != 'background' or len(names) == 1))


def _counts_from_zero(element: Element) -> bool:
    corners = [corner for tag in ('xmin', 'ymin') for corner in element.iter(tag)]
    return any(_number(corner.text) == 0 for corner in corners)


def _size(element: Element) -> tuple[int | None, int | None]:
    """Return the stated height and width; None for those that are missing or 0, as some tools write."""
    height, width = (_number(element.findtext(f'size/{side}')) for side in ('height', 'width'))
    return (int(height), int(width)) if height and width and is_finite(height + width) else (None, None)


def _object(
    data: AnnotatedData,
    path: Path,
    entry: LineElement | Element,
    offset: int,
    known: tuple[str, ...],
    unread: Counter[str],
) -> AnnotatedObject | None:
    place = f'line {getattr(entry, "line", 0)}'
    name = text_of(entry, 'name')
    sides = [_number(entry.findtext(f'bndbox/{side}')) for side in ('xmin', 'ymin', 'xmax', 'ymax')]
    if not name or not all(map(is_finite, sides)):
        detail = 'an object without a name' if not name else f'{name[:60]} without xmin, ymin, xmax and ymax'
        data.fault(path, NO_OBJECT, f'{place}: {detail}: correct or remove it')
        return None
    if known and name not in known:
        detail = f'{name[:60]!r} is not in the list of classes: correct it, or add the name'
        data.fault(path, UNKNOWN_CLASS, f'{place}: {detail}')
        return None
    left, top, right, bottom = (side or 0.0 for side in sides)
    unread['parts of objects'] += len(entry.findall('part'))
    unread['polygons of objects'] += len(entry.findall('polygon'))
    attributes = {flag: True for flag in _FLAGS if text_of(entry, flag) == '1'}
    if (pose := text_of(entry, 'pose')) not in ('', 'Unspecified'):
        attributes['pose'] = pose  # type: ignore[assignment]
    is_crowd = text_of(entry, 'iscrowd') == '1'
    if is_crowd:
        attributes.pop('difficult', None)
    box = box_of_corners(left - offset, top - offset, right, bottom)
    return AnnotatedObject(name, box, None, is_crowd, attributes=attributes, where=(str(path), place))


def _element(image: AnnotatedImage, lost: Counter[str]) -> Element:
    root = Element('annotation')
    folder, _, name = image.file_name.rpartition('/')
    SubElement(root, 'folder').text = f'JPEGImages/{folder}'.rstrip('/')
    SubElement(root, 'filename').text = name
    size = SubElement(root, 'size')
    for side, number in (('width', image.width), ('height', image.height), ('depth', 3)):
        SubElement(size, side).text = str(number)
    SubElement(root, 'segmented').text = '0'
    for thing in image.objects:
        lost['masks: left out'] += bool(thing.mask)
        lost['scores: left out'] += thing.score is not None
        lost['attributes of objects: left out'] += len(thing.attributes.keys() - {*_FLAGS, 'pose'})
        entry = SubElement(root, 'object')
        SubElement(entry, 'name').text = thing.category
        SubElement(entry, 'pose').text = str(thing.attributes.get('pose', 'Unspecified'))
        for flag in _FLAGS:
            is_set = bool(thing.attributes.get(flag)) or (flag == 'difficult' and thing.is_crowd)
            SubElement(entry, flag).text = str(int(is_set))
        if thing.is_crowd:  # `difficult` alone is ignored as well, but may be an object
            SubElement(entry, 'iscrowd').text = '1'
        x, y, width, height = thing.box
        if min(x, y) <= -1:
            lost['boxes that begin before the image: cut off at its edge'] += 1
            width, height = width + min(x, 0), height + min(y, 0)
            x, y = max(x, 0), max(y, 0)
        box = SubElement(entry, 'bndbox')
        for corner, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), (x + 1, y + 1, x + width, y + height)):
            SubElement(box, corner).text = f'{value:.6f}'.rstrip('0').rstrip('.')
    return root


def _number(text: str | None) -> float | None:
    try:
        return float(text or '')
    except ValueError:
        return None
