"""Heat maps of position embeddings against the literal formulas and torch's own interpolation."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from resformer_mm.analysis import position_maps
from resformer_mm.analysis.position_maps import (
    PositionMaps,
    channel_map,
    mean_map,
    plot_position_maps,
    position_embedding,
    similarity_map,
    token_at,
)
from resformer_mm.models import ResFormer
from resformer_mm.text import parse_size, size_text

sys.path.insert(0, str(Path(__file__).parents[1] / 'test_models'))
import literal  # noqa: E402

ARCH = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)


def model(**global_position) -> SimpleNamespace:
    torch.manual_seed(0)
    return SimpleNamespace(
        backbone=ResFormer(ARCH, patch_size=8, global_position=global_position or None).eval()
    )


# Height and width in pixels, and the grid: patches are counted up.
SIZES = {(8, 8): (1, 1), (24, 40): (3, 5), (33, 25): (5, 4)}


@pytest.mark.parametrize('conv', [False, True])
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_gpe_is_the_literal_one(size: tuple[int, int], conv: bool) -> None:
    gpe = model(type='GlobalPositionEmbedding', conv=conv)
    expected = literal.sinusoid(16, SIZES[size])
    if conv:
        weights = gpe.backbone.global_position.conv
        expected = literal.depthwise(expected, weights.weight.double(), weights.bias.double())
    torch.testing.assert_close(position_embedding(gpe, size), expected.detach().float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_a_table_is_interpolated(size: tuple[int, int]) -> None:
    learned = model(type='LearnedPositionEmbedding', grid_size=3)
    table = learned.backbone.global_position.table.detach()
    as_map = table[0].T.reshape(1, 16, 3, 3)
    expected = F.interpolate(as_map, size=SIZES[size], mode='bicubic', align_corners=False)[0]
    torch.testing.assert_close(position_embedding(learned, size), expected.permute(1, 2, 0))
    native = position_embedding(learned, (24, 24))
    torch.testing.assert_close(native.reshape(9, 16), table[0], rtol=0, atol=0)


def test_maps_of_an_embedding() -> None:
    embedding = torch.randn(3, 5, 16)
    values = embedding.numpy().astype(float)
    np.testing.assert_allclose(mean_map(embedding), values.sum(axis=2) / 16, atol=1e-6)
    np.testing.assert_array_equal(channel_map(embedding, 7), values[:, :, 7].astype(np.float32))
    similar = similarity_map(embedding, (0.9, 0.1))
    for row in range(3):
        for column in range(5):
            one, other = values[row, column], values[0, 4]
            cosine = (one * other).sum() / np.sqrt((one * one).sum() * (other * other).sum())
            assert similar[row, column] == pytest.approx(cosine, abs=1e-5)


@pytest.mark.parametrize(
    ('point', 'token'),
    [((0, 0), (0, 0)), ((1, 1), (4, 2)), ((0.5, 0.5), (2, 1)), ((0.61, 0.3), (3, 0))],
    ids=str,
)
def test_the_token_at_a_point(point, token) -> None:
    assert token_at(point, (3, 5)) == token


def test_sizes_as_text() -> None:
    assert parse_size('224') == (224, 224)
    assert parse_size('224x320') == (224, 320)
    assert [size_text(size) for size in ((96, 96), (96, 64))] == ['96', '96x64']


@pytest.mark.parametrize('text', ['0', '64x0', '-64', '64x', '6.4', 'x64', '1x2x3', ''])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError, match='is not a size: give pixels'):
        parse_size(text)


def test_what_has_no_map_says_why() -> None:
    with pytest.raises(ValueError, match='NoGlobalPosition, which adds no embedding'):
        position_embedding(model(type='NoGlobalPosition'), (64, 64))
    with pytest.raises(ValueError, match='backbone Linear has no `global_position`'):
        position_embedding(SimpleNamespace(backbone=torch.nn.Linear(1, 1)), (64, 64))
    with pytest.raises(ValueError, match='Linear has no `global_position`'):
        position_embedding(torch.nn.Linear(1, 1), (64, 64))
    with pytest.raises(ValueError, match='the resolution 16x7 is smaller than one patch of 8 x 8 pixels'):
        position_embedding(model(type='GlobalPositionEmbedding'), (16, 7))
    with pytest.raises(ValueError, match='no channel 16: the embedding has the channels 0 to 15'):
        channel_map(torch.zeros(2, 2, 16), 16)
    with pytest.raises(ValueError, match=r'point \(1.1, 0\) is outside'):
        similarity_map(torch.zeros(2, 2, 16), (1.1, 0))


def test_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row per model with one colour scale, a column per resolution, axes labelled, the point marked."""
    figures = []
    monkeypatch.setattr(position_maps, 'save_figure', lambda figure, path: figures.append(figure))
    rng = np.random.default_rng(0)
    grids = {(64, 64): (8, 8), (64, 128): (8, 16)}
    rows = [
        PositionMaps(name, {size: scale * rng.normal(size=grid) for size, grid in grids.items()})
        for name, scale in (('one', 1), ('other', 10))
    ]
    plot_position_maps(rows, 'unused.png', 'what it is', 'Title', point=(1, 0.5))
    panels = [axes for axes in figures[0].axes if axes.get_title()]
    bars = [axes for axes in figures[0].axes if not axes.get_title()]
    assert len(panels) == 4 and [bar.get_ylabel() for bar in bars] == ['what it is'] * 2
    assert figures[0].get_suptitle() == 'Title'
    for axes, (row, size) in zip(panels, ((row, size) for row in rows for size in grids)):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), row.maps[size])
        everything = np.concatenate([values.ravel() for values in row.maps.values()])
        assert image.get_clim() == (everything.min(), everything.max())
        height, width = grids[size]
        assert axes.get_title() == f'{size[0]} × {size[1]} px\n{height} × {width} tokens'
        assert axes.get_xlabel() == 'token column'
        assert axes.lines[0].get_xydata().tolist() == [[width - 1, 4]]
    assert [axes.get_ylabel() for axes in panels] == ['one\ntoken row', '', 'other\ntoken row', '']
