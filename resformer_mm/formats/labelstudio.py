"""Label Studio's JSON and JSON-MIN exports: rectangles, polygons and brush masks, in percent of the image."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from resformer_mm.datasets.splits import split_name
from resformer_mm.files import write_atomically

from .annotated import (
    CHANGED,
    NO_FILE,
    NO_IMAGE,
    NO_OBJECT,
    OTHER_BOXES,
    UNREAD,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSplit,
    FormatError,
    sorted_classes,
    training_first,
)
from .brush import decode_brush, encode_brush
from .geometry import (
    box_around,
    box_of_mask,
    decode,
    encode,
    flat,
    has_other_box,
    merged,
    points_of,
    rotated,
)
from .images import ImageIndex, plain_name
from .json_files import is_finite, is_points, looks_like, read_json
from .xml_files import read_xml

LABELS = 'label_config.xml'
LOCAL_FILES = '/data/local-files/?d='
_KINDS = ('rectanglelabels', 'polygonlabels', 'brushlabels')
_CROWD, _PART = 'iscrowd', 'part'


def is_found(root: Path) -> bool:
    """Whether a folder has JSON files of Label Studio's tasks."""
    return bool(_files(root))


def read(root: Path) -> AnnotatedData:
    """Read the last annotation of every task that was not cancelled, or its predictions if it has none."""
    data, index = AnnotatedData(), ImageIndex(root)
    parts: dict[str, AnnotatedSplit] = {}
    for file in _files(root):
        try:
            tasks = read_json(file)
        except (FormatError, OSError) as error:
            data.fault(file, NO_FILE, str(error))
            continue
        _read_tasks(data, index, file, tasks, parts)
    data.splits = sorted(parts.values(), key=training_first)
    data.classes = sorted_classes(data, _class_list(data, root))
    return data


def write(data: AnnotatedData, out: Path, image_prefix: str = LOCAL_FILES) -> Counter[str]:
    """Write tasks of each split, and a labelling interface, ``label_config.xml``; return what is lost.

    Objects with scores become predictions, others annotations.

    Args:
        data: the data.
        out: the folder.
        image_prefix: what precedes the names of the images below the folder in their addresses.
    """
    lost: Counter[str] = Counter()
    for split in data.splits:
        tasks = []
        for image in split.images:
            results: list[dict[str, Any]] = []
            for thing in image.objects:
                lost['attributes of objects: left out'] += len(thing.attributes)
                lost[OTHER_BOXES] += has_other_box(thing.box, thing.mask)
                results += _results(thing, image, f'r{len(results)}', lost)
            task: dict[str, Any] = {
                'data': {'image': f'{image_prefix}{image_path(split.name, image.file_name)}'}
            }
            if any('score' in result for result in results):
                task['predictions'] = [{'model_version': 'resformer_mm', 'result': results}]
            else:
                task['annotations'] = [{'result': results}]
            tasks.append(task)
        with write_atomically(out / f'{split.name or "tasks"}.json') as path:
            path.write_text(json.dumps(tasks, ensure_ascii=False), encoding='utf-8')
    with write_atomically(out / LABELS) as path:
        root = _interface(data)
        indent(root)
        ElementTree(root).write(path, encoding='utf-8')
    return +lost


def image_path(split: str, name: str) -> str:
    """Return the path of an image in what :func:`write` makes."""
    return f'images/{split}/{name}' if split else f'images/{name}'


def _files(root: Path) -> list[Path]:
    files = sorted(root.glob('*.json'))
    return [file for file in files if looks_like(file, b'labels"') and _is_list(file)]


def _is_list(file: Path) -> bool:
    with open(file, 'rb') as opened:
        return opened.read(100).lstrip(b'\xef\xbb\xbf \t\r\n').startswith(b'[')


def _class_list(data: AnnotatedData, root: Path) -> tuple[str, ...]:
    """Return the labels of the interface; empty without one."""
    file = root / LABELS
    if not file.is_file():
        return ()
    try:
        found = [label.get('value', '') for label in read_xml(file).iter('Label')]
    except (FormatError, OSError) as error:
        data.fault(file, NO_FILE, str(error))
        return ()
    return tuple(dict.fromkeys(name for name in found if name))


def _read_tasks(
    data: AnnotatedData, index: ImageIndex, file: Path, tasks: Any, parts: dict[str, AnnotatedSplit]
) -> None:
    addresses = [_address(task) for task in tasks]
    named = [address for address in addresses if address]
    found = index.find({address: _places(address) for address in named}, data, file)
    unread: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    split = split_name(file.stem)
    split = split if split in ('train', 'val', 'test') else ''
    for number, (task, address) in enumerate(zip(tasks, addresses), 1):
        place = f'task {task.get("id", number) if isinstance(task, dict) else number}'
        if not address:
            data.fault(file, NO_IMAGE, f'{place} has no image in its data: correct or remove it')
            continue
        if address not in found:
            detail = f'there is no image {address[:200]}: put the images into the folder'
            data.fault(file, NO_IMAGE, f'{place}: {detail}')
            continue
        results = _chosen(task, changed, unread)
        if results is None:
            unread['tasks whose annotations were all cancelled'] += 1
            continue
        image = index.image(found[address], data)
        if image is None:
            continue
        image.objects = _objects(data, file, place, results, image, unread, changed)
        parts.setdefault(split, AnnotatedSplit(split, index.root)).images.append(image)
    data.counted(file, UNREAD, unread)
    data.counted(file, CHANGED, changed)


def _address(task: Any) -> str:
    """Return the address of the image of a task, in either export."""
    fields = task.get('data', task) if isinstance(task, dict) else None
    if not isinstance(fields, dict):
        return ''
    texts = [value for key, value in fields.items() if isinstance(value, str)]
    images = [fields[key] for key in ('image', 'img') if isinstance(fields.get(key), str)]
    return next(iter(images or [text for text in texts if '/' in text or '.' in text]), '')


def _places(address: str) -> list[str]:
    path = plain_name(address).replace('\\', '/').strip('/')
    parts = path.split('/')
    return ['/'.join(parts[start:]) for start in range(len(parts))] + [f'images/{parts[-1]}', address]


def _chosen(task: dict, changed: Counter[str], unread: Counter[str]) -> list[dict] | None:
    """Return the results of a task, each with its value and type; None if all were cancelled."""
    if 'data' not in task:
        return list(_plain_results(task, unread))
    written = task.get('annotations', task.get('completions'))
    written = [entry for entry in written if isinstance(entry, dict)] if isinstance(written, list) else []
    kept = [entry for entry in written if not (entry.get('was_cancelled') or entry.get('skipped'))]
    if written and not kept:
        return None
    if len(kept) > 1:
        changed['tasks with several annotations: the last one is taken'] += 1
    if kept:
        chosen = max(kept, key=lambda entry: str(entry.get('created_at', '')))
    else:
        guesses = task.get('predictions')
        guesses = [entry for entry in guesses if isinstance(entry, dict)] if isinstance(guesses, list) else []
        chosen = guesses[-1] if guesses else {}
    results = chosen.get('result')
    return [entry for entry in results if isinstance(entry, dict)] if isinstance(results, list) else []


def _plain_results(task: dict, unread: Counter[str]) -> Iterator[dict]:
    """Yield the results of a task of JSON-MIN, where every list is of one control of the interface."""
    for key, entries in task.items():
        for entry in entries if isinstance(entries, list) else []:
            kind = next((kind for kind in _KINDS if isinstance(entry, dict) and kind in entry), None)
            if kind is None:
                unread[
                    f'results of the field {str(key)[:30]!r}: draw rectangles, polygons or brush masks'
                ] += 1
            else:
                yield {**entry, 'type': kind, 'value': entry}


def _objects(
    data: AnnotatedData,
    file: Path,
    place: str,
    results: list[dict],
    image: AnnotatedImage,
    unread: Counter[str],
    changed: Counter[str],
) -> list[AnnotatedObject]:
    """Return the objects of the results of a task; those that a relation calls a part are one object."""
    owners: dict[Any, Any] = {}
    for result in results:
        if result.get('type') == 'relation' and result.get('labels') == [_PART]:
            owners[str(result.get('to_id'))] = str(result.get('from_id'))
    found: dict[Any, AnnotatedObject] = {}
    for number, result in enumerate(results):
        if result.get('type') == 'relation':
            unread['relations'] += result.get('labels') != [_PART]
            continue
        thing = _object(data, file, place, result, image, unread, changed)
        if thing is None:
            continue
        id = str(result.get('id', number))
        owner = owners.get(id)
        if owner not in found or found[owner].category != thing.category:
            found[id] = thing
            continue
        try:
            found[owner] = merged(found[owner], thing, image)
        except ValueError as error:
            data.fault(file, NO_OBJECT, f'{thing.where[1]}: {error}: correct or remove it')
    return list(found.values())


def _object(
    data: AnnotatedData,
    file: Path,
    place: str,
    result: dict,
    image: AnnotatedImage,
    unread: Counter[str],
    changed: Counter[str],
) -> AnnotatedObject | None:
    """Return the object of a result, and report one that is none."""
    kind, value = result.get('type'), result.get('value')
    if kind not in _KINDS or not isinstance(value, dict):
        unread[f'results of the type {str(kind)[:30]!r}: draw rectangles, polygons or brush masks'] += 1
        return None
    where = f'{place}, result {str(result.get("id", ""))[:30]}'.removesuffix(', result ')
    names = value.get(kind)
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        data.fault(file, NO_OBJECT, f'{where} has no label: choose one, or remove it')
        return None
    if len(names) > 1:
        changed['objects with several labels: the first one is taken'] += 1
    size = result.get('original_height'), result.get('original_width')
    if data.has_other_size(file, where, size, image):
        return None
    try:
        box, mask = _shape(kind, value, image, changed)
    except ValueError as error:
        data.fault(file, NO_OBJECT, f'{where}: {error}: correct or remove it')
        return None
    score, meta = result.get('score'), result.get('meta')
    texts = meta.get('text') if isinstance(meta, dict) else None
    is_crowd = isinstance(texts, list) and _CROWD in texts
    return AnnotatedObject(
        names[0],
        box,
        mask,
        is_crowd,
        float(score) if is_finite(score) else None,  # type: ignore[arg-type]
        where=(str(file), where),
    )


def _shape(kind: str, value: dict, image: AnnotatedImage, changed: Counter[str]) -> tuple[Any, Any]:
    """Return box and mask of a value in percent."""
    if kind == 'brushlabels':
        if not isinstance(value.get('rle'), list):
            raise ValueError('a brush mask without rle')
        code = encode(decode_brush(value['rle'], image.height, image.width))
        return box_of_mask(code), code
    if kind == 'polygonlabels':
        points = value.get('points')
        if not is_points(points) or len(points) < 3:  # type: ignore[arg-type]
            raise ValueError('a polygon without at least 3 points')
        pixels = [(x * image.width / 100, y * image.height / 100) for x, y in points]  # type: ignore[union-attr]
        return box_around(pixels), [flat(pixels)]
    sides = [value.get(side) for side in ('x', 'y', 'width', 'height')]
    if not all(map(is_finite, sides)):
        raise ValueError('a rectangle without x, y, width and height')
    scale = (image.width / 100, image.height / 100)
    x, y, width, height = (side * factor for side, factor in zip(sides, 2 * scale))  # type: ignore[operator]
    angle = value.get('rotation')
    if not is_finite(angle) or not angle:
        return (x, y, width, height), None
    changed['rotated boxes: the upright boxes around them are taken'] += 1
    return box_around(rotated((x, y, width, height), angle, around_centre=False)), None


def _results(
    thing: AnnotatedObject, image: AnnotatedImage, id: str, lost: Counter[str]
) -> list[dict[str, Any]]:
    """Return the results of an object: brush mask, polygons or rectangle."""
    mask = thing.mask
    if isinstance(mask, list) and len(mask) > 1:
        lost['masks of several polygons: written as polygons with relations, which other readers ignore'] += 1
        parts = [
            part
            for number, polygon in enumerate(mask)
            for part in _results(replace(thing, mask=[polygon]), image, f'{id}_{number}', Counter())
        ]
        links = [
            {'type': 'relation', 'from_id': parts[0]['id'], 'to_id': part['id'], 'labels': [_PART]}
            for part in parts[1:]
        ]
        return [*parts, *({**link, 'direction': 'right'} for link in links)]
    across, down = 100 / image.width, 100 / image.height
    value: dict[str, Any]
    if isinstance(mask, dict):
        kind, value = 'brushlabels', {'format': 'rle'}
        value['rle'] = encode_brush(decode(mask, image.height, image.width))
    elif mask:
        kind, value = 'polygonlabels', {'closed': True}
        value['points'] = [[x * across, y * down] for x, y in points_of(mask[0])]
    else:
        x, y, width, height = thing.box
        kind, value = 'rectanglelabels', {'x': x * across, 'y': y * down, 'rotation': 0}
        value |= {'width': width * across, 'height': height * down}
    value[kind] = [thing.category]
    result = {
        'id': id,
        'from_name': kind,
        'to_name': 'image',
        'type': kind,
        'original_width': image.width,
        'original_height': image.height,
        'image_rotation': 0,
        'value': value,
    }
    if thing.score is not None:
        result['score'] = thing.score
    if thing.is_crowd:
        result['meta'] = {'text': [_CROWD]}
    return [result]


def _interface(data: AnnotatedData) -> Element:
    """Return the labelling interface that the results refer to."""
    root = Element('View')
    SubElement(root, 'Image', name='image', value='$image')
    for kind, tag in zip(_KINDS, ('RectangleLabels', 'PolygonLabels', 'BrushLabels')):
        control = SubElement(root, tag, name=kind, toName='image')
        for name in data.classes:
            SubElement(control, 'Label', value=name)
    return root
