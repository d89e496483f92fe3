"""Synthetic detection data: COCO's layout, annotations that match the images, reproducible."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from generated_files import digest
from pycocotools.coco import COCO

from resformer_mm.synthetic import (
    CLASSES,
    DETECTION_CATEGORIES,
    DETECTION_SPLITS,
    FolderConflictError,
    detection_annotations,
    detection_scene,
    render_image,
    render_masks,
    write_detection,
    write_segmentation,
)
from resformer_mm.synthetic.detection import outline_parts, run_lengths
from resformer_mm.tasks.detection.check import AnnotatedImages, check_annotated

SETTINGS = dict(num_train=16, num_val=6, seed=3, size=40)


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('embedded') / 'data'
    assert write_detection(root, **SETTINGS)
    return root


def index(root: Path, split: str) -> COCO:
    return COCO(root / 'annotations' / f'instances_{split}.json')


@pytest.fixture(scope='module')
def pictures() -> list:
    return [detection_scene(0, 'train2017', number, 64) for number in range(60)]


# Scenes


def test_scenes_vary(pictures) -> None:
    assert {picture.short_side for picture in pictures} <= set(range(48, 81))
    assert len({picture.short_side for picture in pictures}) > 15
    counts = Counter()
    for number, picture in enumerate(pictures):
        objects = [
            item.label
            for place, item in enumerate(picture.scene.instances)
            if item.label >= 0 and place not in picture.crowd
        ]
        counts[len(objects)] += 1
        shapes = {CLASSES[label].split('_')[0] for label in objects}
        assert not objects or list(DETECTION_CATEGORIES)[number % 5] in shapes
        members = [picture.scene.instances[place] for place in picture.crowd]
        assert len({member.label for member in members}) <= 1
        assert not members or (5 <= len(members) <= 9 and max(member.size for member in members) <= 0.1)
    assert set(counts) == {0, 1, 2, 3}
    assert 0 < sum(bool(len(picture.crowd)) for picture in pictures) < 20
    assert all(CLASSES[label].split('_')[0] in DETECTION_CATEGORIES for label in range(len(CLASSES)))


# Annotations, against pycocotools


def test_boxes_areas_and_polygons_are_those_of_what_is_seen(root: Path) -> None:
    checked = 0
    for split in DETECTION_SPLITS:
        coco = index(root, split)
        for number, image_id in enumerate(sorted(coco.imgs)):
            picture = detection_scene(3, split, number, 40)
            seen = render_masks(picture.scene, picture.short_side) >= 0.5
            for annotation in coco.imgToAnns[image_id]:
                mask = coco.annToMask(annotation).astype(bool)
                rows, columns = np.nonzero(mask)
                left, top, width, height = annotation['bbox']
                assert (left, top) == (columns.min(), rows.min())
                assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
                assert annotation['area'] == mask.sum()
                if annotation['iscrowd']:
                    assert np.array_equal(mask, seen[list(picture.crowd)].any(axis=0))
                    continue
                # One of the objects, its holes filled and its specks gone.
                overlaps = [(mask & one).sum() / max((mask | one).sum(), 1) for one in seen]
                best = int(np.argmax(overlaps))
                assert overlaps[best] > 0.6
                name = CLASSES[picture.scene.instances[best].label].split('_')[0]
                assert DETECTION_CATEGORIES[name] == annotation['category_id']
                checked += 1
    assert checked > 20


def test_polygons_run_along_the_edges_of_pixels() -> None:
    mask = np.zeros((12, 15), bool)
    mask[2:9, 3:11] = True
    mask[4:6, 5:8] = False  # a hole
    mask[0, 0] = True  # a speck
    mask[10:12, 9:14] = True  # a second part
    polygons, filled = outline_parts(mask)
    expected = mask.copy()
    expected[4:6, 5:8], expected[0, 0] = True, False
    assert np.array_equal(filled, expected) and len(polygons) == 2
    edges = [np.array(polygon).reshape(-1, 2) for polygon in polygons]
    low, high = (np.stack([function(points, axis=0) for points in edges]) for function in (np.min, np.max))
    # Within half a sub-pixel of the corners of the pixels.
    np.testing.assert_allclose(sorted(low.tolist()), [[3, 2], [9, 10]], atol=0.126)
    np.testing.assert_allclose(sorted(high.tolist()), [[11, 9], [14, 12]], atol=0.126)
    assert outline_parts(np.zeros((4, 4), bool))[0] == []


@pytest.mark.parametrize('first', [False, True])
def test_run_lengths_are_those_of_pycocotools(first: bool) -> None:
    from pycocotools import mask as coco_mask

    mask = np.random.default_rng(0).random((9, 7)) < 0.4
    mask[0, 0] = first
    code = coco_mask.frPyObjects(dict(size=[9, 7], counts=run_lengths(mask)), 9, 7)
    assert np.array_equal(coco_mask.decode(code).astype(bool), mask)
    assert code == coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def test_what_is_out_of_sight_has_no_annotation(pictures) -> None:
    picture = next(p for p in pictures if [item.label >= 0 for item in p.scene.instances].count(True) == 1)
    [item] = [item for item in picture.scene.instances if item.label >= 0]
    away = replace(item, centre=(9.0, 9.0))
    others = [other for other in picture.scene.instances if other.label < 0]
    scene = replace(picture.scene, instances=(*others, away))
    image, annotations = detection_annotations(replace(picture, scene=scene), 5)
    assert annotations == [] and image['id'] == 5


def test_an_object_alone_has_the_area_of_its_size(pictures) -> None:
    checked = 0
    for picture in pictures:
        places = [place for place, item in enumerate(picture.scene.instances) if item.label >= 0]
        if len(places) != 1:
            continue
        item = picture.scene.instances[places[0]]
        scene = replace(picture.scene, instances=(replace(item, centre=(0.5, 0.5), size=0.4),), extent=(1, 1))
        _, [annotation] = detection_annotations(replace(picture, scene=scene, short_side=100), 1)
        assert annotation['area'] == pytest.approx(math.pi / 4 * 40**2, rel=0.03)
        checked += 1
    assert checked > 5


# Files


def test_layout(root: Path) -> None:
    for split, count in zip(DETECTION_SPLITS, (16, 6)):
        coco = index(root, split)
        files = {path.name for path in (root / split).iterdir()}
        assert files == {image['file_name'] for image in coco.imgs.values()} and len(files) == count
        for image in coco.imgs.values():
            picture = cv2.imread(str(root / split / image['file_name']))
            assert picture.shape[:2] == (image['height'], image['width'])
        assert {entry['name']: entry['id'] for entry in coco.cats.values()} == DETECTION_CATEGORIES
    ids = sorted(DETECTION_CATEGORIES.values())
    assert ids != list(range(ids[0], ids[0] + 5))
    assert not index(root, 'train2017').imgs.keys() & index(root, 'val2017').imgs.keys()
    assert json.loads((root / 'manifest.json').read_text())['task'] == 'detection'
    assert len(digest(root)) == 22 + 2 + 1


def test_files_show_their_scene(root: Path) -> None:
    picture = detection_scene(3, 'val2017', 4, 40)
    image = cv2.imread(str(root / 'val2017' / f'{1_000_001 + 4:012d}.jpg'))
    expected = render_image(picture.scene, picture.short_side)
    assert np.abs(image[..., ::-1].astype(int) - expected).mean() < 5


def test_the_check_finds_nothing(root: Path) -> None:
    for split in DETECTION_SPLITS:
        source = AnnotatedImages(root / split, root / 'annotations' / f'instances_{split}.json')
        report = check_annotated(source)
        assert report.findings == [] and 'of 5 categories' in report.facts[0]


def test_files_depend_on_the_seed_alone(root: Path, tmp_path: Path) -> None:
    write_detection(tmp_path / 'two', **SETTINGS, workers=2)
    assert digest(tmp_path / 'two') == digest(root)
    write_detection(tmp_path / 'other', **{**SETTINGS, 'seed': 4, 'num_train': 3, 'num_val': 2})
    other, whole = digest(tmp_path / 'other'), digest(root)
    assert not [name for name in other if other[name] == whole[name]]
    write_detection(tmp_path / 'few', **{**SETTINGS, 'num_train': 3, 'num_val': 2})
    few = {name: value for name, value in digest(tmp_path / 'few').items() if name.endswith('.jpg')}
    assert few.items() <= whole.items()
    few, all_of_them = (index(folder, 'train2017').anns for folder in (tmp_path / 'few', root))
    assert few.items() <= all_of_them.items()


def test_it_is_written_once_and_completed(tmp_path: Path) -> None:
    settings = dict(num_train=2, num_val=1, seed=1, size=32)
    folder = tmp_path / 'data'
    assert write_detection(folder, **settings)
    whole = digest(folder)
    assert not write_detection(folder, **settings)
    for name in ('annotations/instances_val2017.json', f'train2017/{2:012d}.jpg'):
        (folder / name).unlink()
        assert write_detection(folder, **settings)
        assert digest(folder) == whole


def test_other_data_are_left_alone(root: Path) -> None:
    before = digest(root)
    with pytest.raises(FolderConflictError, match=r'other settings \(seed 3, not 4\): choose'):
        write_detection(root, **{**SETTINGS, 'seed': 4})
    with pytest.raises(FolderConflictError, match='task detection, not segmentation'):
        write_segmentation(root, num_train=16, num_val=6, seed=3, size=40)
    assert digest(root) == before


@pytest.mark.parametrize(
    ('name', 'value'), [('num_train', 0), ('num_val', -1), ('seed', -1), ('size', 31), ('workers', 0)]
)
def test_numbers_out_of_range(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f'{name} must be at least .*, got {value}'):
        write_detection(tmp_path / 'data', **{name: value})
    assert not (tmp_path / 'data').exists()
