"""Causes of the loss of accuracy from one image size to another, each from a measurement.

Between a small and a large size lies a chain of five inputs. Two neighbours differ in one thing:

1. ``small``: the image at the small size.
2. ``placed``: the same tokens, with the position embeddings of the centre of the grid of the large size.
3. ``padded``: the same, and the rest of this grid around it, filled with the mean colour.
4. ``enlarged``: the small image, enlarged to the large size: as many tokens, but objects cover more of them.
5. ``large``: the image at the large size: the same tokens, but with more detail.

The differences of the accuracies of neighbours add up to that of the ends.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from resformer_mm.models import ResFormer
from resformer_mm.models.layers import FlexiblePatchEmbed, GlobalPosition, Grid

CHAIN = ('small', 'placed', 'padded', 'enlarged', 'large')
CAUSES = ('positions', 'number of tokens', 'object size', 'detail')
"""What differs between each input of the chain and the next one."""
KERNELS = 'kernels'
"""The small image, cut into as many tokens as the large one by resized patch kernels."""


class CentrePositions(GlobalPosition):
    """Position embeddings of the centre of a larger grid, in the place of those of the grid itself.

    Args:
        inner: the position embedding.
        extent: the larger grid (H, W).
    """

    def __init__(self, inner: GlobalPosition, extent: Grid) -> None:
        super().__init__()
        self.inner = inner
        self.extent = extent

    def forward(self, grid: Grid) -> Tensor | None:
        """Return the embedding ``(1, H * W, C)`` of the window of the grid's size in the centre."""
        embedding = self.inner(self.extent)
        if embedding is None:
            return None
        top, left = centre(grid, self.extent)
        window = embedding.unflatten(1, self.extent)[:, top : top + grid[0], left : left + grid[1]]
        return window.flatten(1, 2)

    def cls_token_embedding(self) -> Tensor | None:
        """Return the embedding of the class token, which has no place."""
        return self.inner.cls_token_embedding()


def centre(grid: Grid, extent: Grid) -> Grid:
    """Return the first row and column of a grid in the centre of a larger one.

    Raises:
        ValueError: the grid does not fit.
    """
    if grid[0] > extent[0] or grid[1] > extent[1]:
        raise ValueError(f'a grid of {grid} tokens does not fit into one of {extent}')
    return (extent[0] - grid[0]) // 2, (extent[1] - grid[1]) // 2


@dataclass(frozen=True)
class ChainOfInputs:
    """The inputs between two sizes, for one backbone.

    Attributes:
        backbone: the backbone, in evaluation mode. Its weights are not changed.
        normalise: maps images as loaded, ``(B, C, h, w)``, 0 to 255, to the input of the backbone.
        predict: maps the input of the backbone to logits ``(B, classes)``.

    Raises:
        ValueError: the backbone merges patches, so that a token is not a place in the image.
    """

    backbone: ResFormer
    normalise: Callable[[Tensor], Tensor]
    predict: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        if self.backbone.token_merger is not None:
            raise ValueError(
                'the causes of a loss are not defined with a token merger, which makes any number of patches '
                'the same number of tokens: leave them out, or set model.backbone.token_merger=None'
            )

    @torch.no_grad()
    def logits(self, small: Tensor, large: Tensor) -> dict[str, Tensor]:
        """Return the logits ``(B, classes)`` of every input of the chain, and of ``kernels`` if it exists.

        ``kernels`` exists if the resized patches have a whole number of pixels.

        Args:
            small: images at the small size, as loaded, ``(B, C, h, w)``.
            large: the same images at the large size.

        Raises:
            ValueError: the small images are larger than the large ones, or have patches of another size.
        """
        low, high = self.normalise(small), self.normalise(large)
        patches = self.backbone.patch_embed
        patch = patches.size_for(*high.shape[2:])
        if patch != patches.size_for(*low.shape[2:]):
            raise ValueError(
                'the causes of a loss need patches of one size: set model.backbone.patch_embed.patch_size '
                'in the place of `tokens`'
            )
        grid, extent = (_grid(image, patch) for image in (low, high))
        found = {'small': self.predict(low)}
        with replaced(
            self.backbone, 'global_position', CentrePositions(self.backbone.global_position, extent)
        ):
            found['placed'] = self.predict(low)
        found['padded'] = self.predict(padded(low, grid, extent, patch))
        found['enlarged'] = self.predict(self.normalise(enlarged(small, large.shape[2:])))
        found['large'] = self.predict(high)
        if (side := _scaled_side(patch, low, high)) is not None:
            with replaced(self.backbone, 'patch_embed', _resized_patches(self.backbone, side)):
                found[KERNELS] = self.predict(low)
        return found


def loss_by_cause(right: Mapping[str, Tensor], falls_to_small: bool) -> dict[str, tuple[float, float]]:
    """Return cause -> (points of accuracy lost to it, standard error over the images).

    Args:
        right: whether the prediction for each image is right, ``(N,)``, for each input of the chain.
        falls_to_small: whether the loss is that at the small size, compared with the large one; else it is
            the loss at the large size, compared with the small one.
    """
    sign = 100.0 if falls_to_small else -100.0
    parts = {}
    for cause, before, after in zip(CAUSES, CHAIN, CHAIN[1:]):
        difference = sign * (right[after].double() - right[before].double())
        error = difference.std(correction=1) / len(difference) ** 0.5 if len(difference) > 1 else torch.nan
        parts[cause] = (float(difference.mean()), float(error))
    return parts


def padded(image: Tensor, grid: Grid, extent: Grid, patch: int) -> Tensor:
    """Return normalised images ``(B, C, h, w)`` in the centre of a larger grid of patches, zeros around.

    Args:
        image: the images.
        grid: their token grid.
        extent: the larger grid.
        patch: side of a patch in pixels.
    """
    top, left = (patch * start for start in centre(grid, extent))
    bottom = patch * extent[0] - top - image.shape[2]
    right = patch * extent[1] - left - image.shape[3]
    return F.pad(image, (left, right, top, bottom))


def enlarged(image: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Return images as loaded, ``(B, C, h, w)``, bicubically enlarged, in whole values from 0 to 255."""
    resized = F.interpolate(image.float(), size=tuple(size), mode='bicubic', align_corners=False)
    return resized.round().clamp(0, 255)


@contextlib.contextmanager
def replaced(backbone: ResFormer, name: str, module: torch.nn.Module) -> Iterator[None]:
    """Give a backbone another module for a while; the one before is there again afterwards."""
    before = getattr(backbone, name)
    setattr(backbone, name, module.train(backbone.training))
    try:
        yield
    finally:
        setattr(backbone, name, before)


def _grid(image: Tensor, patch: int) -> Grid:
    height, width = image.shape[2:]
    return -(-height // patch), -(-width // patch)


def _scaled_side(patch: int, low: Tensor, high: Tensor) -> int | None:
    """Return the patch size with which the small image has the tokens of the large one, if it is whole."""
    sides = {patch * short / long for short, long in zip(low.shape[2:], high.shape[2:])}
    side = sides.pop()
    return int(side) if not sides and side.is_integer() and side >= 1 else None


def _resized_patches(backbone: ResFormer, side: int) -> FlexiblePatchEmbed:
    """Return a patch embedding with the weights of the backbone, whose kernels are resized to a side."""
    own = backbone.patch_embed
    if isinstance(own, FlexiblePatchEmbed):
        patches = copy.copy(own)  # the weights are shared
        patches.patch_size = side
        return patches
    weight = own.proj.weight
    patches = FlexiblePatchEmbed(weight.shape[1], weight.shape[0], weight.shape[2], patch_size=side)
    patches.proj = own.proj
    return patches.to(weight.device)
