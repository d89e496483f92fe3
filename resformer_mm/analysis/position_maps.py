"""Heat maps of position embeddings at several resolutions (paper, Figure 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
import torch
from torch import Tensor, nn

from resformer_mm.models import ResFormer
from resformer_mm.text import size_text

from .figures import add_colour_bar, new_map_figure, save_figure

Size = tuple[int, int]


@dataclass(frozen=True)
class PositionMaps:
    """The heat maps of one model, drawn as a row of the figure.

    Attributes:
        name: name of the model.
        maps: (height, width) of the input in pixels -> map over its token grid, ``(H, W)``.
    """

    name: str
    maps: Mapping[Size, np.ndarray]


def position_embedding(model: nn.Module, size: Size) -> Tensor:
    """Return the position embedding that a backbone adds to the patch tokens of an input, ``(H, W, C)``.

    Args:
        model: model whose ``backbone`` has a ``global_position``, such as :class:`ResFormer`.
        size: height and width of the input in pixels.

    Raises:
        ValueError: the backbone has no position embedding at its input, or the input is smaller than a patch.
    """
    backbone = getattr(model, 'backbone', None)
    module = getattr(backbone, 'global_position', None)
    if backbone is None or module is None:
        kind = f'its backbone {type(backbone).__name__}' if backbone is not None else type(model).__name__
        raise ValueError(f'{kind} has no `global_position`: give a model with a ResFormer backbone')
    patch = backbone.patch_embed.size_for(*size)
    if min(size) < patch:
        raise ValueError(
            f'the resolution {size_text(size)} is smaller than one patch of {patch} x {patch} pixels: '
            f'use at least {patch}'
        )
    height, width = (-(-side // patch) for side in size)
    if isinstance(backbone, ResFormer):  # tokens may be merged before they get a position
        height, width = backbone.grid_after((height, width), block=0)
    with torch.no_grad():
        embedding = module((height, width))
    if embedding is None:
        raise ValueError(
            f'the global_position of the backbone is {type(module).__name__}, which adds no embedding to the '
            'tokens: there is no map to draw'
        )
    return embedding[0].detach().unflatten(0, (height, width)).float().cpu()


def mean_map(embedding: Tensor) -> np.ndarray:
    """Return the mean over the channels of every token, ``(H, W, C) -> (H, W)``, as in Figure 6."""
    return embedding.mean(dim=-1).numpy()


def channel_map(embedding: Tensor, channel: int) -> np.ndarray:
    """Return one channel of every token, ``(H, W, C) -> (H, W)``.

    Raises:
        ValueError: there is no such channel.
    """
    channels = embedding.shape[-1]
    if not 0 <= channel < channels:
        raise ValueError(f'there is no channel {channel}: the embedding has the channels 0 to {channels - 1}')
    return embedding[..., channel].numpy()


def similarity_map(embedding: Tensor, point: tuple[float, float]) -> np.ndarray:
    """Return the cosine similarity of all tokens' embeddings to that of one token, ``(H, W, C) -> (H, W)``.

    Args:
        embedding: the embedding of a token grid.
        point: position of the reference token, (x, y) from (0, 0), top left, to (1, 1), bottom right.

    Raises:
        ValueError: the point is outside this range.
    """
    height, width = embedding.shape[:2]
    column, row = token_at(point, (height, width))
    reference = embedding[row, column].expand_as(embedding)
    return torch.cosine_similarity(embedding, reference, dim=-1).numpy()


def token_at(point: tuple[float, float], grid: Size) -> tuple[int, int]:
    """Return (column, row) of the token at a point, from (0, 0), top left, to (1, 1), bottom right.

    Raises:
        ValueError: the point is outside this range.
    """
    x, y = point
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f'the point ({x:g}, {y:g}) is outside the image: x and y must be in [0, 1]')
    height, width = grid
    return min(int(x * width), width - 1), min(int(y * height), height - 1)


def plot_position_maps(
    rows: Sequence[PositionMaps],
    path: str | Path,
    label: str,
    title: str = '',
    point: tuple[float, float] | None = None,
) -> None:
    """Draw the maps with one row per model, one column per resolution, and one colour scale per row.

    Args:
        rows: the models, with maps of the same resolutions.
        path: the image file.
        label: label of the colour bar.
        title: title of the figure.
        point: position of the reference token to mark, see :func:`similarity_map`.
    """
    sizes = list(rows[0].maps)
    figure, panels, bars = new_map_figure(len(rows), len(sizes), title)
    for row, axes_of_row, bar in zip(rows, panels, bars):
        low = min(values.min() for values in row.maps.values())
        high = max(values.max() for values in row.maps.values())
        for size, axes in zip(sizes, axes_of_row):
            values = row.maps[size]
            height, width = values.shape
            drawn = axes.imshow(values, vmin=low, vmax=high, cmap='viridis', interpolation='nearest')
            axes.set_xticks(_ticks(width))
            axes.set_yticks(_ticks(height))
            axes.set_title('{} × {} px\n{} × {} tokens'.format(*size, height, width), fontsize=9)
            axes.set_xlabel('token column', fontsize=8)
            if point is not None:
                axes.plot(*token_at(point, (height, width)), marker='+', color='red', markersize=9)
        name = fill(row.name, 42, break_on_hyphens=False)
        axes_of_row[0].set_ylabel(f'{name}\ntoken row', fontsize=7)
        add_colour_bar(drawn, bar, label)
    save_figure(figure, path)


def _ticks(length: int) -> list[int]:
    """Return the first, middle and last token."""
    return sorted({0, length // 2, length - 1})
