"""Slices cover every pixel, and their weights are those of a literal computation."""

from __future__ import annotations

import pytest
from pictures import picture
from small_models import classifier

from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.inference.slicing import SliceGrid, check_slices, span_weights, spans

OVERLAPS = [0, 0.2, 0.5, 0.75]


@pytest.mark.parametrize('overlap', OVERLAPS)
@pytest.mark.parametrize('length', [1, 63, 64, 65, 100, 127, 129, 1000])
def test_spans_cover_a_side(length: int, overlap: float) -> None:
    found = spans(length, 64, overlap)
    assert found[0][0] == 0 and found[-1][1] == length and len(set(found)) == len(found)
    assert {stop - start for start, stop in found} == {min(64, length)}
    steps = [later - start for (start, _), (later, _) in zip(found, found[1:])]
    assert not steps or (max(steps) <= round(64 * (1 - overlap)) and max(steps) - min(steps) <= 1)
    fewest = 1 if length <= 64 else 1 + -(-(length - 64) // round(64 * (1 - overlap)))
    assert len(found) == fewest


@pytest.mark.parametrize('overlap', OVERLAPS)
def test_weights_fall_towards_the_next_slice(overlap: float) -> None:
    covering = spans(201, 64, overlap)
    found = span_weights(covering, 201)
    for pixel in range(201):
        distances = {}
        for number, (start, stop) in enumerate(covering):
            if start <= pixel < stop:
                inner = [pixel + 0.5 - start] * (start != 0) + [stop - pixel - 0.5] * (stop != 201)
                distances[number] = min(inner)
        for number, distance in distances.items():
            weight = found[number][pixel - covering[number][0]]
            assert weight == pytest.approx(distance / sum(distances.values()), rel=1e-6)
            assert len(distances) > 1 or weight == 1


def test_bands_run_along_the_short_side() -> None:
    wide, high = SliceGrid(100, 300, 64, 0.2), SliceGrid(300, 100, 64, 0.2)
    assert [region.left for region in wide.regions] == sorted(region.left for region in wide.regions)
    assert [region.top for region in high.regions] == sorted(region.top for region in high.regions)
    assert len(set(wide.regions)) == len(wide.rows) * len(wide.columns) == len(high.regions)
    assert SliceGrid(64, 20, 64, 0.5).is_single and not SliceGrid(65, 20, 64, 0.5).is_single


@pytest.mark.parametrize(
    ('size', 'overlap', 'message'),
    [
        (10, 0.2, 'slice=10 must be an integer of at least 16'),
        (-1, 0.2, 'slice=-1 must be'),
        (64.0, 0.2, 'slice=64.0 must be an integer'),
        (64, 1, 'overlap=1 must be from 0 to 0.9'),
        (64, -0.1, 'overlap=-0.1 must be'),
        (64, float('nan'), 'overlap=nan must be'),
    ],
)
def test_bad_slices_are_refused(size, overlap, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_slices(size, overlap, 16)


def test_classifiers_have_no_slices() -> None:
    inferencer = make_inferencer(classifier(), None, 'cpu')
    with pytest.raises(ValueError, match='slice=64 does not apply to ImageClassifier.*a whole image: slices'):
        inferencer(picture(), slice=64)
