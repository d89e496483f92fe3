"""Synthetic classification data: reproducible, balanced, consistent, and without shortcuts."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from generated_files import digest

from resformer_mm.synthetic import (
    CLASSES,
    CLUTTER,
    SIZE_RANGE,
    FolderConflictError,
    classification_scene,
    render_image,
    render_masks,
    sample_object,
    sample_scene,
    write_image_folder,
)
from resformer_mm.synthetic.shapes import OUTLINES, make_outline, polygon_area

REPO = Path(__file__).parents[2]
TOOL = REPO / 'tools' / 'dataset_converters' / 'make_embedded_data.py'


def run_tool(*args: object) -> subprocess.CompletedProcess:
    path = os.pathsep.join(filter(None, [str(REPO), os.environ.get('PYTHONPATH')]))
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': path},
    )


def three_objects(seed: int = 0, extent: tuple[float, float] = (1.0, 1.0)):
    return sample_scene(np.random.default_rng(seed), [0, 5, 7], extent)


# What is sampled


def test_classes_need_shape_and_texture():
    shapes, textures = zip(*(name.split('_') for name in CLASSES), strict=True)
    assert len(set(CLASSES)) == len(CLASSES) == 10
    assert set(Counter(shapes).values()) == {2}
    assert sorted(Counter(textures).values()) == [1] * 6 + [2] * 2


@pytest.mark.parametrize('shape', sorted(OUTLINES))
def test_outlines_have_the_area_of_the_unit_disc(shape):
    for seed in range(5):
        outline = make_outline(shape, np.random.default_rng(seed))
        assert polygon_area(outline) == pytest.approx(np.pi)


def test_instance_polygon_has_the_area_of_its_size():
    item = sample_object(np.random.default_rng(0), 3)
    assert polygon_area(item.polygon()) == pytest.approx(np.pi * item.size**2 / 4)


@pytest.mark.parametrize('label', range(len(CLASSES)))
def test_sizes_cover_the_range_for_every_class(label):
    rng = np.random.default_rng(label)
    sizes = np.array([sample_object(rng, label).size for _ in range(300)])
    low, high = SIZE_RANGE
    assert high / low >= 4
    assert low <= sizes.min() < 1.1 * low
    assert 0.9 * high < sizes.max() <= high
    # As many below as above the geometric mean: no size is rare.
    assert 0.4 < np.mean(sizes < np.sqrt(low * high)) < 0.6


def test_the_object_is_the_largest_thing():
    for index in range(50):
        scene, label = classification_scene(0, 'val', index)
        objects = [item for item in scene.instances if item.label != CLUTTER]
        assert [item.label for item in objects] == [label]
        clutter = [item for item in scene.instances if item.label == CLUTTER]
        assert len(clutter) >= 3
        assert max(item.size for item in clutter) <= 0.5 * objects[0].size
        assert {item.texture.kind for item in clutter} <= {'plain', 'mottle'}


def test_texture_gets_finer_with_the_object():
    rng = np.random.default_rng(0)
    cycles = [sample_object(rng, 0).texture.frequency * 2 for _ in range(100)]
    assert max(cycles) / min(cycles) < 1.6


def test_the_object_stays_in_sight():
    shares = []
    for index in range(60):
        scene, _ = classification_scene(1, 'train', index)
        masks = render_masks(scene, 64)
        [which] = [i for i, item in enumerate(scene.instances) if item.label != CLUTTER]
        whole = np.pi * scene.instances[which].size ** 2 / 4 * 64**2
        shares.append(masks[which].sum() / whole)
    assert min(shares) > 0.5
    assert min(shares) < 0.85 < 0.95 < np.median(shares)
    assert max(shares) < 1.05


# Pixels and masks


def test_rendering_repeats_itself():
    for _ in range(2):
        np.testing.assert_array_equal(render_image(three_objects(), 96), render_image(three_objects(), 96))
    assert (render_image(three_objects(0), 96) != render_image(three_objects(1), 96)).any()


@pytest.mark.parametrize(
    ('extent', 'shape'), [((1.0, 1.0), (40, 40)), ((1.5, 1.0), (40, 60)), ((1.0, 1.25), (50, 40))]
)
def test_any_size_and_aspect(extent, shape):
    scene = three_objects(extent=extent)
    image = render_image(scene, 40)
    assert image.shape == (*shape, 3)
    assert image.dtype == np.uint8
    assert render_masks(scene, 40).shape == (len(scene.instances), *shape)


def test_sizes_show_the_same_scene():
    scene = three_objects()
    scene = dataclasses.replace(scene, lighting=dataclasses.replace(scene.lighting, noise=0.0))
    large, small = (render_image(scene, size).astype(float) for size in (192, 48))
    shrunk = cv2.resize(large, (48, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk - small).mean() < 6
    masks = [render_masks(scene, size).mean(axis=(1, 2)) for size in (192, 48)]
    np.testing.assert_allclose(*masks, atol=0.01)


def test_size_must_be_positive():
    for render in (render_image, render_masks):
        with pytest.raises(ValueError, match='size .* positive, got 0'):
            render(three_objects(), 0)


def test_pixels_outside_the_masks_do_not_depend_on_the_instances():
    scene = three_objects()
    empty = dataclasses.replace(scene, instances=())
    outside = render_masks(scene, 128).sum(axis=0) == 0
    assert 0.1 < outside.mean() < 0.95
    image, ground = render_image(scene, 128), render_image(empty, 128)
    np.testing.assert_array_equal(image[outside], ground[outside])
    inside = render_masks(scene, 128).sum(axis=0) > 0.99
    assert (image[inside] != ground[inside]).any(axis=-1).mean() > 0.9
    assert render_masks(empty, 128).shape == (0, 128, 128)


def test_masks_share_every_pixel():
    masks = render_masks(three_objects(), 64)
    assert masks.min() >= 0
    assert masks.sum(axis=0).max() <= 1 + 1e-5


def test_mask_of_what_is_in_front_is_its_polygon():
    size, checked = 200, 0
    for seed in range(10):
        scene = three_objects(seed)
        points = (scene.instances[-1].polygon() * size).astype(np.float32)
        mask = render_masks(scene, size)[-1]
        x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
        depth = np.array(
            [
                cv2.pointPolygonTest(points, (float(a), float(b)), True)
                for a, b in zip(x.ravel(), y.ravel(), strict=True)
            ]
        ).reshape(size, size)
        # The pixels a border runs through may be anything between.
        assert (mask[depth > 1.5] > 0.99).all()
        assert (mask[depth < -1.5] < 0.01).all()
        checked += int((depth > 1.5).sum())
    assert checked > 1000


def test_occlusion_takes_from_the_one_behind():
    scene = three_objects()
    front, back = scene.instances[-1], sample_object(np.random.default_rng(3), 1)
    back = dataclasses.replace(back, centre=front.centre, size=1.5 * front.size)
    alone = dataclasses.replace(scene, instances=(back,))
    both = dataclasses.replace(scene, instances=(back, front))
    hidden = render_masks(alone, 64)[0] - render_masks(both, 64)[0]
    assert hidden.min() >= -1e-6
    assert hidden.sum() > 0
    assert (hidden[render_masks(both, 64)[1] == 0] == 0).all()


def test_an_instance_out_of_the_picture_has_an_empty_mask():
    scene = three_objects()
    gone = dataclasses.replace(scene.instances[0], centre=(5.0, 5.0))
    scene_with = dataclasses.replace(scene, instances=(*scene.instances, gone))
    assert render_masks(scene_with, 48)[-1].max() == 0
    np.testing.assert_array_equal(render_image(scene_with, 48), render_image(scene, 48))


def test_a_moved_instance_carries_its_texture_along():
    scene = three_objects()
    lighting = dataclasses.replace(scene.lighting, gradient=(0.0, 0.0), noise=0.0)
    [star] = [item for item in scene.instances if item.label == 7]
    item = dataclasses.replace(star, centre=(0.4, 0.4), size=0.5)
    moved = dataclasses.replace(item, centre=(0.5, 0.5))
    crops = []
    for instance, start in ((item, 32), (moved, 42)):
        one = dataclasses.replace(scene, instances=(instance,), lighting=lighting)
        crops.append(render_image(one, 100)[start : start + 16, start : start + 16].astype(int))
    assert np.abs(crops[0] - crops[1]).max() <= 1


def test_mean_colour_does_not_tell_the_class():
    def colours(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        scenes = [classification_scene(0, split, index) for index in range(count)]
        features, labels = [], []
        for scene, label in scenes:
            image = render_image(scene, 32).reshape(-1, 3) / 255
            features.append(np.concatenate([image.mean(axis=0), image.std(axis=0)]))
            labels.append(label)
        return np.array(features), np.array(labels)

    features, labels = colours('train', 1000)
    centroids = np.array([features[labels == k].mean(axis=0) for k in range(len(CLASSES))])
    features, labels = colours('val', 500)
    guesses = np.linalg.norm(features[:, None] - centroids, axis=-1).argmin(axis=1)
    # Chance is 0.1 with a standard deviation of 0.013.
    assert np.mean(guesses == labels) < 0.16


# Files


@pytest.fixture(scope='module')
def small_folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('embedded') / 'data'
    assert write_image_folder(root, num_train=20, num_val=10, seed=3, size=32)
    return root


def test_layout(small_folder):
    for split, each in (('train', 2), ('val', 1)):
        folders = sorted(path.name for path in (small_folder / split).iterdir())
        assert folders == sorted(CLASSES)
        for name in folders:
            pictures = list((small_folder / split / name).glob('*.jpg'))
            assert len(pictures) == each
            assert cv2.imread(str(pictures[0])).shape == (32, 32, 3)
    manifest = json.loads((small_folder / 'manifest.json').read_text())
    assert manifest['seed'] == 3
    assert manifest['num_train'] == 20
    assert manifest['classes'] == list(CLASSES)
    assert len(digest(small_folder)) == 31


def test_pictures_show_their_scene(small_folder):
    scene, label = classification_scene(3, 'val', 4)
    path = small_folder / 'val' / CLASSES[label] / f'{CLASSES[label]}_000004.jpg'
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB).astype(int)
    assert np.abs(image - render_image(scene, 32)).mean() < 5


def test_files_depend_on_the_seed_alone(small_folder, tmp_path):
    write_image_folder(tmp_path / 'two', num_train=20, num_val=10, seed=3, size=32, workers=2)
    assert digest(tmp_path / 'two') == digest(small_folder)
    write_image_folder(tmp_path / 'other', num_train=20, num_val=10, seed=4, size=32)
    old, new = digest(small_folder), digest(tmp_path / 'other')
    assert old.keys() == new.keys()
    assert all(old[name] != new[name] for name in old)


def test_splits_differ():
    train, val = (classification_scene(0, split, 0)[0] for split in ('train', 'val'))
    assert (render_image(train, 32) != render_image(val, 32)).any()


def test_a_smaller_set_is_the_start_of_a_larger_one(small_folder, tmp_path):
    write_image_folder(tmp_path / 'few', num_train=7, num_val=3, seed=3, size=32)
    few, many = digest(tmp_path / 'few'), digest(small_folder)
    assert {name: many[name] for name in few if name.endswith('.jpg')} == {
        name: value for name, value in few.items() if name.endswith('.jpg')
    }


def test_an_interrupted_run_is_completed(tmp_path):
    settings = dict(num_train=10, num_val=10, seed=1, size=32)
    root = tmp_path / 'data'
    write_image_folder(root, **settings)
    whole = digest(root)
    (root / 'manifest.json').rename(root / 'manifest.unfinished.json')
    next(root.rglob('*.jpg')).unlink()
    assert write_image_folder(root, **settings)
    assert digest(root) == whole
    next(root.rglob('*.jpg')).unlink()
    assert write_image_folder(root, **settings)
    assert digest(root) == whole
    assert not write_image_folder(root, **settings)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    with pytest.raises(FolderConflictError, match='not written by this generator: choose another'):
        write_image_folder(tmp_path, num_train=1, num_val=1)
    assert digest(tmp_path).keys() == {'notes.txt'}
    with pytest.raises(FolderConflictError, match='is a file, not a folder'):
        write_image_folder(tmp_path / 'notes.txt', num_train=1, num_val=1)


@pytest.mark.parametrize('text', ['[]', 'not json', '{"seed": 0}'])
def test_a_foreign_manifest_is_left_alone(tmp_path, text):
    (tmp_path / 'manifest.json').write_text(text)
    with pytest.raises(FolderConflictError, match=f'{tmp_path.name}.*choose another folder'):
        write_image_folder(tmp_path, num_train=1, num_val=1)
    assert (tmp_path / 'manifest.json').read_text() == text


def test_other_settings_are_named(small_folder):
    before = digest(small_folder)
    with pytest.raises(FolderConflictError, match=r'other settings \(seed 3, not 5\): choose'):
        write_image_folder(small_folder, num_train=20, num_val=10, seed=5, size=32)
    assert digest(small_folder) == before


@pytest.mark.parametrize(
    ('name', 'value'),
    [('num_train', 0), ('num_val', -1), ('seed', -1), ('size', 0), ('workers', 0)],
)
def test_numbers_out_of_range(tmp_path, name, value):
    with pytest.raises(ValueError, match=f'{name} must be at least .*, got {value}'):
        write_image_folder(tmp_path / 'data', **{name: value})
    assert not (tmp_path / 'data').exists()


def test_tool_writes_once_and_tells_errors(small_folder, tmp_path):
    root = tmp_path / 'new' / 'data'
    command = [root, '--seed', 3, '--num-train', 20, '--num-val', 10, '--size', 32, '--workers', 2]
    first = run_tool(*command)
    assert first.returncode == 0, first.stderr
    assert 'wrote 20 training and 10 validation pictures of 10 classes' in first.stdout
    assert digest(root) == digest(small_folder)
    again = run_tool(*command)
    assert again.returncode == 0
    assert 'already exist, nothing to do' in again.stdout
    for wrong, message in (
        ([root, '--seed', 4], 'contains a data set with other settings'),
        ([tmp_path / 'x', '--num-train', 0], 'num_train must be at least 1, got 0'),
    ):
        result = run_tool(*wrong)
        assert result.returncode == 1
        assert result.stderr.startswith('error: ')
        assert message in result.stderr
        assert 'Traceback' not in result.stderr
    assert run_tool(root, '--size', 'large').returncode == 2
    assert digest(root) == digest(small_folder)
