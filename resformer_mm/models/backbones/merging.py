"""Token mergers in a backbone: where they are, and which grid its tokens have before and after them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from resformer_mm.models.layers import (
    BatchPadding,
    Grid,
    GridMerger,
    PatchEmbed,
    TokenGrid,
    inside,
    token_grids,
)
from resformer_mm.registry import MODELS

from .output_forms import OutputForms


class TokenMerging(OutputForms):
    """Base of backbones that may merge their tokens before a block, see :class:`GridMerger`.

    The class token and registers are not merged.
    """

    token_merger: GridMerger | None
    out_indices: tuple[int, ...]
    patch_embed: PatchEmbed

    pools_maps = False
    """Whether heads average maps over their positions, so that the stride may differ from image to image."""

    _run: Callable[..., Tensor]

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels, if it is that of every image and pass; a ValueError if it is not."""
        return self.patch_embed.fixed_size

    def _build_token_merger(self, config: Mapping[str, Any] | None, **dims) -> GridMerger | None:
        """Return the merger of a config, with dimensions that the config may replace."""
        if config is None:
            return None
        reason = ''
        try:
            merger = MODELS.build({'_scope_': 'resformer_mm', **dims, **config})
        except TypeError as error:  # of a class without these arguments
            merger, reason = None, f' ({error})'
        if not isinstance(merger, GridMerger):
            raise ValueError(
                f'backbone.token_merger={dict(config)} is not a token merger{reason}: its type is '
                'TokenMerger, with grid, or StridedTokenMerger, with factor'
            )
        if merger.index > self.out_indices[-1]:
            raise ValueError(
                f'backbone.token_merger.index={merger.index} is after the last block whose output is used, '
                f'{self.out_indices[-1]} (out_indices): set a smaller index'
            )
        if self.out_type == 'featmap' and merger.factor is None and not self.pools_maps:
            raise ValueError(
                f"backbone.token_merger.type={config['type']!r} gives maps (out_type='featmap') whose stride "
                'differs from image to image, and heads would find objects in wrong places: use '
                "StridedTokenMerger, or for a classifier out_type='cls_token' or 'avg_featmap'"
            )
        return merger

    def grid_after(self, grid: Grid, block: int = -1) -> Grid:
        """Return the token grid after a block, for the grid ``(H, W)`` of the patches of an image.

        Args:
            grid: ``(H, W)``.
            block: number of the block; -1 is the last one that runs.
        """
        merger = self._merger_before(block)
        return grid if merger is None else merger.merged_grid(grid)

    def map_grids(self, sizes: Sequence[Grid]) -> list[Grid]:
        """Return the height and width of the last map, of images of these heights and widths in pixels."""
        return [self.grid_after(grid) for grid in token_grids(sizes, self.patch_size)]

    def token_owners(self, grid: Grid, block: int = -1) -> tuple[list[int], list[int]]:
        """Return the row of tokens after a block for every row of patches, and the columns.

        Args:
            grid: grid ``(H, W)`` of the patches of an image.
            block: number of the block; -1 is the last one that runs.
        """
        merger = self._merger_before(block)
        return (list(range(grid[0])), list(range(grid[1]))) if merger is None else merger.owners(grid)

    def stride_after(self, block: int = -1) -> int | None:
        """Return the pixels between tokens after a block; None if it depends on the image.

        Args:
            block: number of the block; -1 is the last one that runs.
        """
        merger = self._merger_before(block)
        if merger is None:
            return self.patch_size
        return None if merger.factor is None else self.patch_size * merger.factor

    def _merger_before(self, block: int) -> GridMerger | None:
        """Return the merger if it is before a block; -1 is the last block that runs."""
        block = self.out_indices[-1] if block == -1 else block
        merger = self.token_merger
        return merger if merger is not None and merger.index <= block else None

    def _merges_at(self, block: int) -> bool:
        """Return whether tokens are merged before a block that is not the first."""
        return self.token_merger is not None and 0 < block == self.token_merger.index

    def _merge_patches(
        self, patches: Tensor, grid: Grid, padding: BatchPadding | None = None
    ) -> tuple[Tensor, Grid]:
        """Return patch tokens ``(B, N, C)`` and their grid, merged if that is before the first block."""
        merger = self.token_merger
        if merger is None or merger.index > 0:
            return patches, grid
        return self._merged(merger, patches, grid, padding)

    def _merge(self, tokens: Tensor, grid: Grid, padding: BatchPadding | None = None) -> tuple[Tensor, Grid]:
        """Return tokens ``(B, N, C)``, merged but for class token and registers, and their grid."""
        assert self.token_merger is not None
        patches, merged_grid = self._merged(self.token_merger, self.patch_tokens(tokens), grid, padding)
        return torch.cat((tokens[:, : self.num_prefix_tokens], patches), dim=1), merged_grid

    def _merged(
        self, merger: GridMerger, patches: Tensor, grid: Grid, padding: BatchPadding | None
    ) -> tuple[Tensor, Grid]:
        grids = None if padding is None else padding.grids
        return self._run(merger, patches, grid, grids), merger.merged_grid(grid)

    def _padding_at(self, block: int, padding: BatchPadding | None, grid: TokenGrid) -> BatchPadding | None:
        """Return the padding of the input and the output of a block, given that of the patches.

        Args:
            block: number of the block.
            padding: padding of the patches.
            grid: grid ``(H, W)`` of the tokens of the batch there.
        """
        merger = self._merger_before(block)
        if padding is None or merger is None:
            return padding
        grids = tuple(merger.merged_grid(own) for own in padding.grids)
        extent = grid[-2], grid[-1]
        return BatchPadding(grids, inside(grids, extent, padding.valid.device).flatten(1))
