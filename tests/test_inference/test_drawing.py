"""Drawn label maps, masks and names."""

from __future__ import annotations

import numpy as np
import pytest

from resformer_mm.inference.drawing import draw_box, draw_label_map, draw_mask, draw_text

PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def grey(height: int = 60, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def test_a_label_map_blends_the_colours() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (60, 80))  # 3 and -1 are no classes
    labels[0, 0] = -1
    drawn = draw_label_map(grey(), labels, PALETTE, 0.25)
    expected = 0.75 * 100 + 0.25 * np.array([*PALETTE, (0, 0, 0)])[labels]
    assert np.abs(drawn - expected).max() <= 0.5


def test_every_region_of_some_size_has_its_name() -> None:
    labels = np.zeros((300, 400), np.uint8)
    labels[:, 200:] = 1
    labels[10:12, 10:12] = 2  # too small for a name
    names = ['left', 'right', 'tiny']
    plain = draw_label_map(grey(300, 400), labels, PALETTE, 0.5)
    written = draw_label_map(grey(300, 400), labels, PALETTE, 0.5, names)
    changed = (written != plain).any(axis=2)
    left, right = changed[:, :200], changed[:, 200:]
    for half in (left, right):
        rows, columns = np.nonzero(half)
        assert 60 < rows.mean() < 240 and 60 < columns.mean() < 140
    assert not changed[:30, :30].any()


@pytest.mark.parametrize('shape', [(1, 1), (1, 500), (500, 1), (10, 4000)])
def test_images_of_unusual_shape(shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, np.uint8)
    assert draw_label_map(grey(*shape), labels, PALETTE, 0.5, ['a long name', 'b', 'c']).shape == (*shape, 3)
    picture = grey(*shape)
    draw_mask(picture, np.ones(shape, bool), PALETTE[0], 0.5)
    draw_box(picture, (-1e6, 0, 1e6, 1e6), PALETTE[0], 3)
    draw_text(picture, 'name', (-5, 9999), 12)


def test_a_mask_changes_its_pixels_alone() -> None:
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:60] = True
    mask[28:32, 40:45] = False
    picture = grey()
    draw_mask(picture, mask, (200, 0, 100), 0.5)
    assert np.array_equal((picture != 100).any(axis=2), mask | (picture == 255).all(axis=2))
    assert picture[35, 35].tolist() == [150, 50, 100] and picture[30, 42].tolist() == [100, 100, 100]
    assert picture[20, 45].tolist() == [255, 255, 255]


def test_text_stays_inside() -> None:
    for place in ((0, 0), (70, 55), (500, 500), (-9, 3)):
        picture = grey()
        draw_text(picture, 'cost $5\nto $9', place, 12, background=(0, 0, 0))
        assert (picture == 0).any() and (picture > 150).any()
