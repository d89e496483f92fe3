"""Annotation files as tools export them: what is repaired, what is told, and what stops."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detection_files import CATEGORIES, HEIGHT, WIDTH, annotation, content, crowd, write_coco, write_content
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask
from segmentation_files import write_image

from resformer_mm import repairs
from resformer_mm.registry import DATASETS, METRICS
from resformer_mm.tasks.detection.check import AnnotatedImages, check_annotated
from resformer_mm.tasks.detection.coco import AnnotationError
from resformer_mm.tasks.detection.fixing import write_repaired
from resformer_mm.tasks.detection.repairing import repair_entries

CLASSES = tuple(CATEGORIES)
FILE = 'annotations/instances_train2017.json'
LOADING = [dict(type='resformer_mm.LoadImage'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmdet')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path / 'data')


@pytest.fixture
def told(monkeypatch) -> Iterator[list[str]]:
    lines: list[str] = []
    monkeypatch.setattr(repairs, 'print_log', lambda text, **kwargs: lines.append(text))
    monkeypatch.setattr(repairs, '_told', set())
    yield lines


@pytest.fixture
def strict() -> Iterator[None]:
    repairs.set_strict(True)
    yield
    repairs.set_strict(False)


def build(root: Path, **kwargs):
    options = dict(
        type='resformer_mm.COCO',
        data_root=str(root),
        ann_file=FILE,
        data_prefix=dict(img='train2017'),
        metainfo=dict(classes=CLASSES),
        pipeline=[*LOADING, dict(type='PackDetInputs')],
    )
    return DATASETS.build({**options, **kwargs})


def samples(root: Path, **kwargs) -> list[dict]:
    """Everything that the data set says of its images, with paths relative to the folder of the data."""
    entries = [copy.deepcopy(build(root, **kwargs).get_data_info(index)) for index in range(3)]
    return [{**entry, 'img_path': str(Path(entry['img_path']).relative_to(root))} for entry in entries]


def report(root: Path, **kwargs):
    return check_annotated(AnnotatedImages(root / 'train2017', root / FILE, CLASSES, **kwargs))


def each(key: str, change: Callable[[dict], None]) -> Callable[[dict], None]:
    def apply(entries: dict) -> None:
        for entry in entries[key]:
            change(entry)

    return apply


def drop(*names: str) -> Callable[[dict], None]:
    return lambda entry: [entry.pop(name) for name in names] and None


def as_text(entry: dict) -> None:
    entry.update({key: str(entry[key]) for key in ('image_id', 'category_id', 'area', 'iscrowd')})
    entry['bbox'] = [str(value) for value in entry['bbox']]
    if isinstance(entry['segmentation'], list):
        entry['segmentation'] = [[f'{value}' for value in points] for points in entry['segmentation']]


def as_points(entry: dict) -> None:
    if isinstance(polygons := entry['segmentation'], list):
        entry['segmentation'] = [np.reshape(points, (-1, 2)).tolist() for points in polygons]


def flat(entry: dict) -> None:
    if isinstance(polygons := entry['segmentation'], list):
        [entry['segmentation']] = polygons


def bytes_as_text(entry: dict) -> None:
    if isinstance(code := entry['segmentation'], dict):
        packed = coco_mask.frPyObjects(code, HEIGHT, WIDTH)
        entry['segmentation'] = dict(size=code['size'], counts=str(packed['counts']))


def twice(entries: dict) -> None:
    for key in ('images', 'categories'):
        entries[key] += copy.deepcopy(entries[key])


def same_ids(entries: dict) -> None:
    for number, entry in enumerate(entries['annotations']):
        entry['id'] = (0, 7, 7, 'x')[number]


REPAIRS: dict[str, tuple[Callable[[dict], None], str]] = {
    'iscrowd': (
        each('annotations', lambda entry: entry.pop('iscrowd') and entry.update(iscrowd=1)),
        '3 annot',
    ),
    'area': (each('annotations', drop('area')), '4 annotations without `area`: taken from the mask'),
    'null': (each('annotations', lambda entry: entry.update(area=None)), '4 annotations without `area`'),
    'box': (each('annotations', drop('bbox')), '4 annotations without `bbox`: taken from the mask'),
    'no id': (each('annotations', drop('id')), '4 annotations without a usable `id`'),
    'same id': (same_ids, '3 annotations without a usable `id`'),
    'sizes': (each('images', drop('height', 'width')), '3 images without `height` and `width`: read from'),
    'text': (each('annotations', as_text), 'numbers written as text'),
    'references': (each('annotations', as_text), '8 references to ids that are text in one place'),
    'fractions': (each('images', lambda entry: entry.update(width=30.0, id=float(entry['id']))), '6 numbers'),
    'points': (each('annotations', as_points), '3 masks whose polygons are not lists in a list'),
    'flat': (each('annotations', flat), '3 masks whose polygons are not lists in a list'),
    'bytes': (each('annotations', bytes_as_text), "1 run-length codes between b'...': read without"),
    'twice': (twice, '3 images listed twice'),
}


@pytest.mark.parametrize('what', REPAIRS)
def test_what_is_certain_is_repaired_and_told_once(root: Path, told: list[str], what: str) -> None:
    expected = samples(root)
    assert told == []
    change, message = REPAIRS[what]
    entries = content()
    change(entries)
    path = write_content(root, entries)
    found = samples(root)
    if what == 'bytes':
        for sample in [*found, *expected]:
            for item in sample['instances']:
                item['mask'] = decode(item['mask']).tolist()
    assert found == expected
    samples(root)
    [line] = [line for line in told if message in line]
    assert line.startswith(f'repaired: {path}: ')
    notes = [finding for finding in report(root).findings if finding.kind == 'repaired on reading']
    assert any(message in finding.detail and not finding.is_fault for finding in notes)


def decode(mask: dict | list) -> np.ndarray:
    codes = coco_mask.frPyObjects(mask, HEIGHT, WIDTH) if isinstance(mask, list) else [mask]
    if isinstance(mask, dict) and isinstance(mask['counts'], list):
        codes = [coco_mask.frPyObjects(mask, HEIGHT, WIDTH)]
    return coco_mask.decode(codes).any(-1)


@pytest.mark.parametrize('what', ['area', 'no id', 'sizes'])
def test_strict_mode_repairs_nothing(root: Path, strict, what: str) -> None:
    entries = content()
    REPAIRS[what][0](entries)
    write_content(root, entries)
    with pytest.raises(repairs.StrictError, match=f'{FILE}: .*Strict mode'):
        build(root)
    assert not report(root).is_sound


def test_repaired_boxes_and_areas_are_those_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        height, width = map(int, rng.integers(3, 40, 2))
        mask = np.asfortranarray(rng.random((height, width)) < rng.random(), np.uint8)
        mask[rng.integers(height), rng.integers(width)] = 1
        code = coco_mask.encode(mask)
        text = dict(size=[height, width], counts=code['counts'].decode())
        entry: dict = dict(image_id=1, category_id=1, segmentation=text)
        repair_entries(dict(images=[], categories=[], annotations=[entry]))
        assert entry['area'] == coco_mask.area(code) and entry['bbox'] == coco_mask.toBbox(code).tolist()


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be', 'utf-32'])
def test_any_unicode_encoding_is_read(root: Path, told: list[str], encoding: str) -> None:
    expected = samples(root)
    (root / FILE).write_bytes(json.dumps(content()).encode(encoding))
    assert samples(root) == expected
    [line] = told
    assert 'byte order mark' in line if encoding == 'utf-8-sig' else 'encoded in UTF-' in line
    metric = METRICS.build(dict(type='resformer_mm.CocoMetric', ann_file=str(root / FILE)))
    assert len(metric._coco_api.imgs) == 3
    assert report(root).is_sound


def test_another_encoding_is_named(root: Path) -> None:
    entries = content()
    entries['categories'][0]['name'] = 'gr\xfcn'
    (root / FILE).write_bytes(json.dumps(entries, ensure_ascii=False).encode('latin1'))
    with pytest.raises(AnnotationError, match=r'not text in UTF-8 \(byte \d+\): save it in UTF-8'):
        build(root)
    [finding] = report(root).findings
    assert 'not text in UTF-8' in finding.detail


# Crowd regions


def mostly_crowds(number: int = 3) -> dict:
    entries = content()
    for entry in entries['annotations'][:number]:
        entry['iscrowd'] = 1
    return entries


def test_many_crowd_regions_are_told(root: Path, told: list[str]) -> None:
    write_content(root, mostly_crowds())
    build(root)
    [line] = told
    assert '3 of 4 annotations are crowd regions' in line and 'crowd_as_objects=True' in line
    [finding] = report(root).findings
    assert finding.kind == 'crowd regions' and not finding.is_fault
    write_content(root, mostly_crowds(4))
    with pytest.raises(AnnotationError, match='no object .*only 4 crowd regions.*crowd_as_objects=True'):
        build(root)
    assert not report(root).is_sound and report(root, crowd_as_objects=True).is_sound


def test_crowd_regions_are_taken_as_objects(root: Path, told: list[str]) -> None:
    write_content(root, mostly_crowds(4))
    dataset = build(root, crowd_as_objects=True)
    assert [len(dataset[index]['data_samples'].gt_instances) for index in range(3)] == [2, 2, 0]
    assert told == []


@pytest.mark.parametrize('with_file', [True, False])
def test_the_metric_follows_the_data_set(root: Path, with_file: bool) -> None:
    """Three of four objects are not found: recall is 1/4 if they count, and 1 if they are crowd regions."""
    write_content(root, mostly_crowds())
    scores = {}
    for flag in (False, True):
        dataset = build(root, crowd_as_objects=flag, test_mode=True)
        ann_file = dict(ann_file=str(root / FILE)) if with_file else {}
        metric = METRICS.build(dict(type='resformer_mm.CocoMetric', classwise=False, **ann_file))
        metric.dataset_meta = dataset.metainfo
        for index in range(3):
            info = dataset.get_data_info(index)
            boxes = torch.tensor([[1.0, 2, 9, 12]] if index == 1 else []).reshape(-1, 4)
            if index == 1:
                boxes = torch.tensor([info['instances'][-1]['bbox']], dtype=torch.float)
            found = dict(bboxes=boxes, scores=torch.ones(len(boxes)), labels=torch.full((len(boxes),), 0))
            if index == 1:
                found['labels'] = torch.tensor([info['instances'][-1]['bbox_label']])
            sample = dict(
                img_id=info['img_id'],
                ori_shape=(HEIGHT, WIDTH),
                pred_instances=found,
                instances=info['instances'],
            )
            metric.process({}, [sample])
        scores[flag] = metric.evaluate(3)['coco/bbox_mAP']
    assert scores[False] == 1 and scores[True] < 1


# File names


def named(root: Path, change: Callable[[str], str]) -> None:
    entries = content()
    for image in entries['images']:
        image['file_name'] = change(image['file_name'])
    write_content(root, entries)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda name: f'.\\{name}', '3 file names with backslashes'),
        (lambda name: f'train2017\\{name}', '3 file names that repeat the folder of the images'),
        (lambda name: f'data/train2017/{name}', '3 file names that repeat the folder of the images'),
        (lambda name: name.replace('jpg', 'JPG'), '3 file names that differ .* in upper and lower case'),
        (lambda name: f' {name}\n', '3 file names with blanks around them'),
        (lambda name: name.replace('.', '%2E'), '3 file names written as addresses'),
    ],
)
def test_names_that_only_one_file_fits(root: Path, told: list[str], change, message: str) -> None:
    expected = samples(root)
    named(root, change)
    assert samples(root) == expected
    assert any(re.search(message, line) for line in told)
    assert report(root).is_sound


def test_addresses_of_files(root: Path, told: list[str]) -> None:
    folder = root / 'train 2017'
    (root / 'train2017').rename(folder)
    named(root, lambda name: f'file://{folder}/{name}'.replace(' ', '%20'))
    dataset = build(root, data_prefix=dict(img='train 2017'))
    assert dataset[0]['inputs'].shape[-2:] == (HEIGHT, WIDTH)
    assert 'written as addresses' in told[0]


@pytest.mark.parametrize('prefix', ['/data/upload/7/', 'C:\\data\\', 's3://bucket/x/', '../../media/'])
def test_paths_of_another_machine(root: Path, prefix: str) -> None:
    expected = samples(root)
    named(root, lambda name: prefix + name)
    shown = prefix.replace('\\', '/')
    with pytest.raises(FileNotFoundError, match=f'By base name all of them.*strip_prefix={shown!r} of the'):
        build(root)
    assert f'strip_prefix={shown!r}' in str([f.detail for f in report(root).findings])
    assert samples(root, strip_prefix=shown) == samples(root, strip_prefix=['/x', prefix]) == expected
    assert report(root, strip_prefix=(shown,)).is_sound


def test_images_in_a_folder_below(root: Path) -> None:
    for prefix in ('', '/data/'):
        named(root, lambda name, prefix=prefix: prefix + name)
        with pytest.raises(FileNotFoundError, match=r"data_prefix=dict\(img='train2017'\)") as caught:
            build(root, data_prefix=dict(img=''))
        assert ('strip_prefix' in str(caught.value)) == bool(prefix)


def test_names_that_several_files_fit_stay_missing(root: Path) -> None:
    write_image(root / 'train2017' / 'a' / '1.jpg')
    write_image(root / 'train2017' / 'b' / '1.jpg')
    (root / 'train2017' / '1.jpg').unlink()
    with pytest.raises(FileNotFoundError, match='1 of 3 images .*Add them, or remove them'):
        build(root)
    write_coco(root)
    named(root, lambda name: name if name == '1.jpg' else f'{name[0]}\\1.jpg')
    with pytest.raises(FileNotFoundError, match='2 of 3 images'):
        build(root)


# Boxes and names in another convention


def test_boxes_as_corners_and_as_fractions_are_named(root: Path, told: list[str]) -> None:
    entries = content()
    boxes = [(10, 3, 28, 15), (12, 4, 30, 12), (2, 0, 29, 20), (14, 6, 25, 16)]
    for entry, box in zip(entries['annotations'], boxes):
        entry.update(bbox=list(box), iscrowd=0)
    write_content(root, entries)
    with pytest.raises(AnnotationError, match=r'boxes look like corners.*right - left, bottom - top'):
        build(root)
    for entry in entries['annotations']:
        entry['bbox'] = [0.25, 0.125, 0.5, 0.5]
    write_content(root, entries)
    with pytest.raises(AnnotationError, match='boxes look like fractions.*write bbox in pixels'):
        build(root)
    assert 'boxes look like fractions' in report(root).counts()


def test_names_that_differ_in_case_are_named(root: Path) -> None:
    with pytest.raises(AnnotationError, match="no category Cat , wolf .its 'cat' differ only in blanks or"):
        build(root, metainfo=dict(classes=('Cat ', 'wolf')))


def test_a_turned_image_without_a_size_is_named(root: Path) -> None:
    entries = content()
    for image in entries['images']:
        del image['width']
    write_content(root, entries)
    write_image(root / 'train2017' / '2.jpg', orientation=6)
    with pytest.raises(AnnotationError, match='image 2.jpg: it has no width: add them .*EXIF'):
        build(root)


# Repaired copies


def test_a_repaired_copy_needs_no_repair(root: Path, told: list[str], strict) -> None:
    entries = content()
    for what in ('area', 'no id', 'sizes', 'points'):
        REPAIRS[what][0](entries)
    entries['annotations'].append(crowd(9, 10))
    for image in entries['images']:
        image['file_name'] = f'/data/upload/7/{image["file_name"]}'
    path = root / FILE
    path.write_bytes(json.dumps(entries).encode('utf-8-sig'))
    source = AnnotatedImages(root / 'train2017', path, CLASSES, crowd_as_objects=True)
    with pytest.raises(ValueError, match='would overwrite'):
        write_repaired(source, path)
    original = path.read_bytes()
    copy = root / 'deep' / 'copy.json'
    done = ' '.join(map(str, write_repaired(source, copy)))
    for part in ('byte order', '`area`', '`id`', '`height`', 'another folder', '2 crowd regions'):
        assert part in done
    assert path.read_bytes() == original
    dataset = build(root, ann_file='deep/copy.json')
    assert len(dataset[0]['data_samples'].gt_instances) == 3
    assert write_repaired(AnnotatedImages(root / 'train2017', copy), root / 'again.json') == []
    assert not (root / 'again.json').exists()


def test_sizes_decide_whether_files_of_a_base_name_are_meant(root: Path) -> None:
    named(root, lambda name: f'/data/{name}')
    write_image(root / 'train2017' / '3.jpg', (HEIGHT, WIDTH + 1))
    assert write_repaired(AnnotatedImages(root / 'train2017', root / FILE), root / 'copy.json') == []


def test_annotations_of_coco_are_left_as_they_are() -> None:
    entries = content()
    entries['annotations'].append(annotation(12, 10, segmentation=[]))
    before = copy.deepcopy(entries)
    assert repair_entries(entries) == [] and entries == before
