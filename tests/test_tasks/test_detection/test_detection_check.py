"""Validation of detection data: every fault is reported, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from detection_files import CATEGORIES, annotation, content, write_coco, write_content
from mmengine.config import Config
from mmengine.registry import init_default_scope
from segmentation_files import write_image

from resformer_mm.datasets.checks.configured import configured_sources
from resformer_mm.tasks.detection.check import AnnotatedImages, check_annotated

CLASSES = tuple(CATEGORIES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path / 'data')


def source(root: Path, classes: tuple | None = CLASSES, split: str = 'train2017') -> AnnotatedImages:
    return AnnotatedImages(root / split, root / 'annotations' / f'instances_{split}.json', classes)


def found(root: Path, **kwargs) -> list[tuple[str, str, bool]]:
    """Kind, line, and whether it is a fault, of everything that is found."""
    return [(f.kind, str(f), f.is_fault) for f in check_annotated(source(root, **kwargs)).findings]


def test_sound_data(root: Path) -> None:
    report = check_annotated(source(root), workers=3)
    assert report.findings == [] and report.is_sound
    [fact] = report.facts
    assert fact.endswith('3 images, 1 without an object; 3 objects of 3 of 3 categories, 1 crowd regions')
    [fact] = check_annotated(source(root, classes=('owl',))).facts
    assert fact.endswith('3 images, 2 without an object; 1 objects of 1 of 1 categories, 0 crowd regions')


@pytest.mark.parametrize(
    ('entry', 'kind', 'line'),
    [
        (annotation(9, 10, 5), 'unknown category', '(1.jpg): category_id 5 does not exist'),
        (annotation(9, 11), 'unknown image', 'annotation 9: image_id 11 does not exist'),
        (annotation(9, 10, box=(3, 4, 0, 5)), 'no area', '(1.jpg): [x, y, width, height] = [3, 4, 0, 5]'),
        (annotation(9, 10, area=0), 'no area', 'annotation 9 (1.jpg): its area is 0'),
        (annotation(9, 10, box=(31, 4, 5, 5)), 'box outside the image', 'annotation 9 (1.jpg): [x, y'),
        (annotation(9, 10, box=(-3, 4, 9, 5)), 'box extends beyond the image', 'annotation 9 (1.jpg): [x, y'),
        (annotation(9, 10, segmentation=[[1, 2, 3, 4]]), 'broken polygons', '1 of 1 polygons, such as [1, 2'),
        (annotation(9, 10, segmentation=[[1, 2, 3, 4, 5, 6, 7]]), 'broken polygons', 'at least 3 points'),
        (
            annotation(9, 10, segmentation=dict(size=[20, 30], counts=[600, 1])),
            'broken run-length code',
            'its runs cover 601 pixels, but the image has 600',
        ),
        (
            annotation(9, 10, segmentation=dict(size=[20, 30], counts='P')),
            'broken run-length code',
            'its counts are truncated',
        ),
        (dict(id=9, image_id=10, iscrowd=0), 'incomplete entry', 'it has no category_id, bbox, area'),
        (annotation(9, [10]), 'incomplete entry', "image_id is [10], not a number or string"),
        (annotation(9, 10, iscrowd='no'), 'incomplete entry', "iscrowd is 'no', not 0 or 1"),
        (annotation(9, 10, box=(1, 2, 10**20, 3)), 'incomplete entry', 'must be [x, y, width, height]'),
    ],
)  # fmt: skip
def test_faults_of_annotations(root: Path, entry: dict, kind: str, line: str) -> None:
    entries = content()
    entries['annotations'].append(entry)
    path = write_content(root, entries)
    [(found_kind, found_line, is_fault)] = found(root)
    assert (found_kind, is_fault) == (kind, True)
    assert found_line.startswith(f'{path}: annotation ') and line in found_line


def test_notes(root: Path) -> None:
    entries = content()
    entries['annotations'] += [annotation(9, 10, segmentation=None), annotation(11, 10, ignore=1)]
    path = write_content(root, entries)
    extra = write_image(root / 'train2017' / 'extra.PNG')
    (root / 'train2017' / 'readme.txt').touch()
    assert found(root) == [
        ('no mask', f'{path}: annotation 9 (1.jpg): it has no segmentation', False),
        ('marked as ignored', f'{path}: annotation 11 (1.jpg): its `ignore` is set', False),
        ('image without an entry', f'{extra}: it is not used', False),
    ]
    assert check_annotated(source(root)).is_sound


def test_faults_of_images(root: Path) -> None:
    folder = root / 'train2017'
    (folder / '1.jpg').unlink()
    (folder / '2.jpg').write_bytes((folder / '2.jpg').read_bytes()[:-200])
    write_image(folder / '3.jpg', (20, 31))
    kinds = {kind: line for kind, line, is_fault in found(root) if is_fault}
    assert list(kinds) == ['missing image', 'unreadable image', 'sizes differ']
    assert kinds['missing image'] == f'{folder}/1.jpg: image 10 of the annotation file'
    assert f'{folder}/2.jpg' in kinds['unreadable image'] and 'truncated' in kinds['unreadable image']
    assert kinds['sizes differ'] == f'{folder}/3.jpg: 20 x 31, but its annotations are for 20 x 30'


@pytest.mark.parametrize(
    ('orientation', 'kind'), [(6, 'sizes differ'), (3, 'orientation of the annotations unknown')]
)
def test_images_that_a_camera_turned(root: Path, orientation: int, kind: str) -> None:
    write_image(root / 'train2017' / '1.jpg', orientation=orientation)
    [(found_kind, line, is_fault)] = found(root)
    assert found_kind == kind and is_fault and f'EXIF orientation {orientation}' in line


@pytest.mark.parametrize(
    ('text', 'kind', 'detail'),
    [
        ('', 'empty annotation file', 'it has no content'),
        ('{"images": [}', 'annotation file is not JSON', 'line 1 column 13'),
        ('\ufeff{}', 'no annotations in COCO format', '`images` is missing'),
        ('[3]', 'no annotations in COCO format', 'it holds a list'),
        ('{"images": [{}]}', 'no annotations in COCO format', '`categories` is missing'),
        (json.dumps({**content(), 'annotations': []}), 'empty annotation file', 'it has no annotations'),
    ],
)
def test_faults_of_the_file(root: Path, text: str, kind: str, detail: str) -> None:
    path = write_content(root, text)
    [(found_kind, line, is_fault)] = found(root)
    assert found_kind == kind and is_fault and line.startswith(f'{path}: ') and detail in line


def test_what_is_missing(root: Path) -> None:
    folder, file = root / 'val2017', root / 'annotations' / 'instances_val2017.json'
    assert found(root, split='val2017') == [
        ('missing annotation file', str(file), True),
        ('missing folder', str(folder), True),
    ]


def test_entries_of_images_and_categories(root: Path) -> None:
    entries = content()
    entries['images'] += [dict(id=7), dict(entries['images'][0], id=8)]
    entries['categories'] += [dict(id=7, name='fox'), dict(id=9, name='cat')]
    write_content(root, entries)
    kinds = [kind for kind, _, _ in found(root, classes=None)]
    assert sorted(kinds) == [
        'category named twice',
        'id used twice',
        'image listed twice',
        'incomplete entry',
    ]


@pytest.mark.parametrize(
    ('name', 'key', 'value', 'line'),
    [
        ('categories', 'name', 7, 'category 7: name is 7, not a non-empty string'),
        ('categories', 'id', {}, 'category cat: id is {}, not a number or string'),
        ('images', 'file_name', ['1.jpg'], "file_name is ['1.jpg'], not a non-empty string"),
        ('images', 'width', 30.5, 'image 1.jpg: width is 30.5, not a number of pixels'),
    ],
)
def test_entries_of_another_kind(root: Path, name: str, key: str, value: object, line: str) -> None:
    entries = content()
    entries[name][0][key] = value
    write_content(root, entries)
    lines = [text for kind, text, _ in found(root) if kind == 'incomplete entry']
    assert len(lines) == 1 and line in lines[0]


def test_classes_against_categories(root: Path) -> None:
    for classes, detail in ((('cat', 'elk'), 'no category elk'), (('dog', 'cat'), "('cat', 'dog')")):
        [(kind, line, is_fault)] = found(root, classes=classes)
        assert kind == 'categories do not match the classes' and is_fault and detail in line


# Configs


def dataset(root: Path, split: str, **kwargs) -> dict:
    ann_file = f'annotations/instances_{split}.json'
    prefix = dict(img=split)
    return dict(
        type='resformer_mm.COCO', data_root=str(root), ann_file=ann_file, data_prefix=prefix, **kwargs
    )


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmdet')


def test_sources_of_a_config(root: Path) -> None:
    train = dict(
        type='MultiImageMixDataset', dataset=dataset(root, 'train2017', metainfo=dict(classes=CLASSES))
    )
    val = dataset(root, 'val2017')
    folder = dict(
        dataset(root, 'val2017'),
        type='resformer_mm.DetectionFolder',
        classes_file='annotations/instances_train2017.json',
    )
    cfg = Config(
        dict(
            train_dataloader=dict(dataset=train),
            val_dataloader=dict(dataset=val),
            test_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=[val, folder])),
        )
    )
    training, validation, test = configured_sources(cfg, AnnotatedImages.from_config)
    assert training == AnnotatedImages(
        f'{root}/train2017', f'{root}/annotations/instances_train2017.json', CLASSES
    )
    assert len(validation.classes) == 80 and test.classes == CLASSES
    assert check_annotated(training).is_sound


def test_a_file_that_mmdetection_reads_otherwise(root: Path) -> None:
    text = content()
    pipeline = [dict(type='RandomChoice', transforms=[[dict(type='LoadAnnotations', with_mask=True)]])]

    def counts(kind: str) -> tuple[dict, dict]:
        write_content(root, text)
        meta = dict(classes=CLASSES)
        config = dataset(root, 'train2017', metainfo=meta, pipeline=pipeline) | dict(type=kind)
        cfg = Config(dict(train_dataloader=dict(dataset=config)))
        report = check_annotated(*configured_sources(cfg, AnnotatedImages.from_config))
        return report.counts(), report.counts(faults=False)

    assert counts('CocoDataset') == counts('resformer_mm.COCO') == ({}, {})
    text['annotations'][0]['id'] = 'a'
    assert counts('CocoDataset') == ({}, {'repaired on reading': 1})
    text['annotations'][0]['category_id'] = '3'
    assert counts('CocoDataset') == ({'read otherwise by this data set': 1}, {})
    assert counts('resformer_mm.COCO') == ({}, {'repaired on reading': 2})
    text['annotations'] = content()['annotations']
    del text['annotations'][1]['segmentation']
    assert counts('resformer_mm.COCO') == ({'no mask': 1}, {})


def test_configs_that_say_too_little(root: Path) -> None:
    with pytest.raises(ValueError, match='no data set in train_dataloader'):
        configured_sources(Config(dict(train_dataloader=None)), AnnotatedImages.from_config)
    for change, message in (
        (dict(ann_file=''), 'train_dataloader.dataset has no ann_file'),
        (dict(type='mmdet.BaseDetDataset'), 'train_dataloader.dataset names no classes'),
    ):
        config = dict(dataset=dataset(root, 'train2017') | change)
        with pytest.raises(ValueError, match=message):
            configured_sources(Config(dict(train_dataloader=config)), AnnotatedImages.from_config)
