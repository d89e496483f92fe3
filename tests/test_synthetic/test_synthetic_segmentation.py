"""Synthetic segmentation data: ADE20K's layout, masks that match the scenes, reproducible."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from generated_files import digest

from resformer_mm.synthetic import (
    CLASSES,
    SEGMENTATION_CLASSES,
    SEGMENTATION_SPLITS,
    FolderConflictError,
    render_image,
    render_labels,
    segmentation_scene,
    write_image_folder,
    write_segmentation,
)
from resformer_mm.tasks.segmentation.check import PairFolders, check_pairs
from resformer_mm.tasks.segmentation.label_maps import LabelValues

SETTINGS = dict(num_train=12, num_val=10, seed=3, size=40)


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('embedded') / 'data'
    assert write_segmentation(root, **SETTINGS)
    return root


# Scenes and masks


def scenes(count: int, size: int = 48):
    return [segmentation_scene(0, 'training', index, size) for index in range(count)]


def test_scenes_vary() -> None:
    drawn = scenes(60)
    shapes = [render_labels(scene, short_side).shape for scene, short_side in drawn]
    assert min(min(shape) for shape in shapes) >= 36 and max(min(shape) for shape in shapes) <= 60
    assert len({min(shape) for shape in shapes}) > 12
    ratios = [width / height for height, width in shapes]
    assert min(ratios) < 0.8 and max(ratios) > 1.4
    labels = [[item.label for item in scene.instances if item.label >= 0] for scene, _ in drawn]
    assert {len(chosen) for chosen in labels} == {1, 2, 3, 4}
    assert all(index % len(CLASSES) in chosen for index, chosen in enumerate(labels))
    assert all(len(set(chosen)) == len(chosen) for chosen in labels)


def test_a_mask_says_whose_centre_a_pixel_shows() -> None:
    """What lies deep inside the object in front, as OpenCV's own polygon test has it, carries its value."""
    checked = 0
    for scene, _ in scenes(20):
        size = 96
        labels = render_labels(scene, size)
        depths = []
        for item in scene.instances:
            points = (item.polygon() * size).astype(np.float32)
            y, x = np.mgrid[3 : labels.shape[0] : 7, 3 : labels.shape[1] : 7]
            depths.append(
                [
                    cv2.pointPolygonTest(points, (float(a) + 0.5, float(b) + 0.5), True)
                    for a, b in zip(x.ravel(), y.ravel())
                ]
            )
        for column, label in enumerate(labels[3::7, 3::7].ravel()):
            at = [depth[column] for depth in depths]
            if min(map(abs, at)) < 1.5:
                continue
            inside = [item for item, depth in zip(scene.instances, at) if depth > 0]
            expected = 2 + inside[-1].label if inside and inside[-1].label >= 0 else 1
            assert label == expected
            checked += 1
    assert checked > 2000


def test_borders_are_thin_and_unlabelled() -> None:
    for scene, _ in scenes(10):
        labels = render_labels(scene, 128)
        border = labels == 0
        assert 0 < border.mean() < 0.06
        assert not cv2.erode(border.astype(np.uint8), np.ones((4, 4), np.uint8)).any()
        # Two values touch only where the outline runs just between two pixels.
        left, right = labels[:, :-1], labels[:, 1:]
        touching = (left != right) & (left > 0) & (right > 0)
        assert touching.sum() < 0.25 * border.sum()


def test_a_constant_prediction_scores_little() -> None:
    counts = np.zeros(len(SEGMENTATION_CLASSES) + 1)
    for scene, short_side in scenes(60):
        counts += np.bincount(render_labels(scene, short_side).ravel(), minlength=len(counts))
    shares = counts[1:] / counts[1:].sum()
    assert 0.6 < shares[0] < 0.9
    assert shares[1:].min() > 0.004
    assert shares[0] / len(shares) < 0.09  # mean IoU of `background` everywhere


def test_sizes_show_the_same_scene() -> None:
    scene, _ = segmentation_scene(0, 'validation', 5)
    large, small = render_labels(scene, 160), render_labels(scene, 40)
    height, width = small.shape
    nearest = large[np.ix_((np.arange(height) * 4 + 2).clip(0, 159), np.arange(width) * 4 + 2)]
    both = (nearest > 0) & (small > 0)
    assert (nearest == small)[both].mean() > 0.99


# Files


def test_layout(root: Path) -> None:
    for split, count in zip(SEGMENTATION_SPLITS, (12, 10)):
        images = sorted((root / 'images' / split).iterdir())
        masks = sorted((root / 'annotations' / split).iterdir())
        assert [path.stem for path in images] == [path.stem for path in masks]
        assert len(images) == count
        assert {path.suffix for path in images} == {'.jpg'} and {path.suffix for path in masks} == {'.png'}
    assert (root / 'classes.txt').read_text().split() == ['unlabelled', 'background', *CLASSES]
    manifest = json.loads((root / 'manifest.json').read_text())
    assert manifest['task'] == 'segmentation' and manifest['classes'] == list(SEGMENTATION_CLASSES)
    assert len(digest(root)) == 2 * 22 + 2


def test_files_show_their_scene(root: Path) -> None:
    for split in SEGMENTATION_SPLITS:
        scene, short_side = segmentation_scene(3, split, 7, 40)
        image = cv2.imread(str(root / 'images' / split / f'{split}_000007.jpg'))
        mask = cv2.imread(str(root / 'annotations' / split / f'{split}_000007.png'), cv2.IMREAD_UNCHANGED)
        assert min(mask.shape) == short_side
        np.testing.assert_array_equal(mask, render_labels(scene, short_side))
        assert np.abs(image[..., ::-1].astype(int) - render_image(scene, short_side)).mean() < 5


def test_the_check_finds_nothing(root: Path) -> None:
    labels = LabelValues(len(SEGMENTATION_CLASSES), reduce_zero_label=True)
    for split in SEGMENTATION_SPLITS:
        report = check_pairs(PairFolders(root / 'images' / split, root / 'annotations' / split, labels))
        assert report.findings == [] and '11 of 11 classes occur' in report.facts[0]


def test_files_depend_on_the_seed_alone(root: Path, tmp_path: Path) -> None:
    write_segmentation(tmp_path / 'two', **SETTINGS, workers=2)
    assert digest(tmp_path / 'two') == digest(root)
    write_segmentation(tmp_path / 'other', **{**SETTINGS, 'seed': 4, 'num_train': 4, 'num_val': 3})
    other, whole = digest(tmp_path / 'other'), digest(root)
    assert not [name for name in other if name != 'classes.txt' and other[name] == whole[name]]
    write_segmentation(tmp_path / 'few', **{**SETTINGS, 'num_train': 4, 'num_val': 3})
    few = digest(tmp_path / 'few')
    del few['manifest.json']
    assert few.items() <= whole.items()


def test_it_is_written_once_and_completed(root: Path, tmp_path: Path) -> None:
    settings = dict(num_train=2, num_val=1, seed=1, size=32)
    folder = tmp_path / 'data'
    assert write_segmentation(folder, **settings)
    whole = digest(folder)
    assert not write_segmentation(folder, **settings)
    for name in ('classes.txt', 'annotations/training/training_000001.png'):
        (folder / name).unlink()
        assert write_segmentation(folder, **settings)
        assert digest(folder) == whole


def test_other_data_are_left_alone(root: Path, tmp_path: Path) -> None:
    before = digest(root)
    with pytest.raises(FolderConflictError, match=r'other settings \(seed 3, not 4\): choose'):
        write_segmentation(root, **{**SETTINGS, 'seed': 4})
    with pytest.raises(FolderConflictError, match='other settings .*task segmentation, not None'):
        write_image_folder(root, num_train=12, num_val=10, seed=3, size=40)
    assert digest(root) == before


@pytest.mark.parametrize(
    ('name', 'value'), [('num_train', 0), ('num_val', -1), ('seed', -1), ('size', 31), ('workers', 0)]
)
def test_numbers_out_of_range(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f'{name} must be at least .*, got {value}'):
        write_segmentation(tmp_path / 'data', **{name: value})
    assert not (tmp_path / 'data').exists()
