"""Similarity of the features of the same images at two sizes, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from resformer_mm.models import ResFormer
from resformer_mm.models.layers import Grid

CLASS_TOKEN, PATCH_MAP = 'class token', 'map'


class LinearCKA:
    """Linear centred kernel alignment of two sets of features, collected batch by batch.

    ``|X^T Y|^2 / (|X^T X| |Y^T Y|)`` with Frobenius norms and centred columns (Kornblith et al., 2019): 1 if
    one is the other, rotated and scaled, and 0 if they do not depend on each other linearly.

    Args:
        width: number of channels C.
    """

    def __init__(self, width: int) -> None:
        self._count = 0
        self._sum = torch.zeros(2 * width, dtype=torch.float64)
        self._products = torch.zeros(2 * width, 2 * width, dtype=torch.float64)

    def update(self, first: Tensor, second: Tensor) -> None:
        """Add features of the same samples, ``(N, C)`` each."""
        both = torch.cat((first, second), dim=1).double().cpu()
        self._count += len(both)
        self._sum += both.sum(0)
        self._products += both.t() @ both

    def value(self) -> float:
        """Return the alignment; NaN if one of the two is constant or there is nothing."""
        mean = self._sum / max(1, self._count)
        centred = self._products - self._count * torch.outer(mean, mean)
        width = len(self._sum) // 2
        own, other = centred[:width, :width].norm(), centred[width:, width:].norm()
        return float(centred[:width, width:].square().sum() / (own * other))


@dataclass(frozen=True)
class Similarity:
    """Similarity of the features of a block at two resolutions.

    Attributes:
        block: index of the block.
        part: 'class token', or 'map': the patch tokens, interpolated to the grid of the reference.
        cosine: mean cosine of the features of the same image.
        other_images: mean cosine of the features of two different images, one at each resolution: what
            ``cosine`` is without any likeness of the images.
        cka: linear centred kernel alignment over the images, or the places of all images.
    """

    block: int
    part: str
    cosine: float
    other_images: float
    cka: float


class FeatureSimilarity:
    """Similarity of the features at one resolution to those at a reference.

    Args:
        backbone: the backbone.
    """

    def __init__(self, backbone: ResFormer) -> None:
        self.backbone = backbone
        self._alignments: dict[tuple[int, str], LinearCKA] = {}
        self._cosines: dict[tuple[int, str], list[tuple[Tensor, Tensor]]] = {}

    def update(
        self, features: Sequence[tuple[Tensor, Grid]], reference: Sequence[tuple[Tensor, Grid]]
    ) -> None:
        """Add the features of a batch, both as :func:`features_of_blocks` returns them."""
        for block, (one, other) in enumerate(zip(features, reference)):
            for part, first, second in self._pairs(one, other):
                key = (block, part)
                self._alignments.setdefault(key, LinearCKA(first.shape[-1])).update(
                    first.flatten(0, -2), second.flatten(0, -2)
                )
                same = F.cosine_similarity(first, second, dim=-1)
                different = F.cosine_similarity(first, second.roll(1, 0), dim=-1)
                if len(first) == 1:  # there is not another image in the batch
                    different = different[:0]
                self._cosines.setdefault(key, []).append((same.flatten().cpu(), different.flatten().cpu()))

    def results(self) -> list[Similarity]:
        """Return the similarities of all blocks, class token before map."""
        found = []
        for (block, part), alignment in self._alignments.items():
            same, different = (torch.cat(values).mean().item() for values in zip(*self._cosines[block, part]))
            found.append(Similarity(block, part, same, different, alignment.value()))
        return found

    def _pairs(
        self, one: tuple[Tensor, Grid], other: tuple[Tensor, Grid]
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield part, features and features of the reference, ``(B, C)`` or ``(B, N, C)``."""
        if self.backbone.with_cls_token:
            yield CLASS_TOKEN, one[0][:, 0], other[0][:, 0]
        first, second = (self.backbone.patch_tokens(tokens) for tokens, _ in (one, other))
        yield PATCH_MAP, resize_tokens(first, one[1], other[1]), second


def resize_tokens(tokens: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Return patch tokens ``(B, H * W, C)`` of a grid for another one, interpolated with antialiasing."""
    if grid == wanted:
        return tokens
    maps = tokens.transpose(1, 2).unflatten(2, grid)
    maps = F.interpolate(maps, size=wanted, mode='bilinear', antialias=True)
    return maps.flatten(2).transpose(1, 2)


@torch.no_grad()
def features_of_blocks(backbone: ResFormer, image: Tensor) -> list[tuple[Tensor, Grid]]:
    """Return tokens ``(B, N, C)`` and token grid after every block that runs.

    Those of the last block are normalised by the final norm, if the backbone has one.

    Args:
        backbone: the backbone, in evaluation mode.
        image: ``(B, C_in, h, w)``, normalised.
    """
    running = range(backbone.out_indices[-1] + 1)
    outputs, grids = backbone.block_tokens(image, running)
    if running[-1] == backbone.num_layers - 1 and backbone.norm is not None:
        outputs[-1] = backbone.norm(outputs[-1])
    return [(tokens.float(), as_grid(grid)) for tokens, grid in zip(outputs, grids)]


def as_grid(grid: Iterable[int]) -> Grid:
    """Return the token grid of an image as (H, W)."""
    height, width = grid
    return height, width
