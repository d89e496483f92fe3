"""Features of patches as colours, against a singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest

from resformer_mm.analysis.patch_colours import PatchMap, patch_colours, principal_components


def maps(*grids: tuple[int, int], channels: int = 6) -> list[PatchMap]:
    rng = np.random.default_rng(0)
    scale = np.arange(channels, 0, -1)
    return [
        PatchMap(np.zeros((8 * h, 8 * w, 3), np.uint8), rng.normal(size=(h, w, channels)) * scale, 8)
        for h, w in grids
    ]


def test_components_of_equal_parts_are_singular_vectors():
    parts = [one.features.reshape(-1, 6) for one in maps((4, 5), (5, 4), (2, 10))]
    found = principal_components(parts)
    rows = np.concatenate(parts)
    _, values, vectors = np.linalg.svd(rows - rows.mean(axis=0))
    assert found.shares == pytest.approx(values[:3] ** 2 / (values**2).sum())
    assert np.abs((found.directions * vectors[:3].T).sum(axis=0)) == pytest.approx(1)
    assert (np.abs(found.directions).max(axis=0) == found.directions.max(axis=0)).all()
    assert found.project(rows) == pytest.approx((rows - rows.mean(axis=0)) @ found.directions)


def test_every_map_has_the_same_weight():
    parts = [one.features.reshape(-1, 6) for one in maps((2, 3), (8, 9))]
    repeated = [np.repeat(parts[0], 12, axis=0), parts[1]]
    rows = np.concatenate(repeated)
    assert len(repeated[0]) == len(repeated[1])
    _, _, vectors = np.linalg.svd(rows - rows.mean(axis=0))
    found = principal_components(parts)
    assert np.abs((found.directions * vectors[:3].T).sum(axis=0)) == pytest.approx(1)


def test_colours_are_stretched_over_all_maps():
    colours, _ = patch_colours(maps((4, 4), (8, 8)))
    assert [one.shape for one in colours] == [(4, 4, 3), (8, 8, 3)]
    values = np.concatenate([one.reshape(-1, 3) for one in colours])
    assert (values.min(axis=0) == 0).all() and (values.max(axis=0) == 1).all()
    # Equal features have equal colours in every map.
    same = [PatchMap(one.image, one.features.copy(), 8) for one in maps((4, 4), (4, 4))]
    same[1].features[1, 2] = same[0].features[3, 0]
    colours, _ = patch_colours(same)
    assert colours[1][1, 2] == pytest.approx(colours[0][3, 0])


@pytest.mark.parametrize('sign', [1, -1])
def test_the_foreground_is_what_borders_have_less_of(sign):
    [one] = maps((8, 8), channels=4)
    features = 0.1 * one.features
    features[..., 3] += sign * 20
    features[2:6, 3:7, 3] -= sign * 40
    [colours], _ = patch_colours([PatchMap(one.image, features, 8)], foreground=True)
    seen = colours.any(axis=2)
    assert not seen[:2].any() and not seen[:, :3].any() and seen[2:6, 3:7].mean() > 0.9


def test_too_little_is_refused():
    with pytest.raises(ValueError, match='2 patches are too few'):
        principal_components([np.ones((2, 5))])
    with pytest.raises(ValueError, match='equal'):
        principal_components([np.ones((9, 5))])
