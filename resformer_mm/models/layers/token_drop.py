"""Training on a part of the patch tokens of large images.

Most of the cost of a multi-resolution step are the tokens of its largest copy. Tokens are dropped after the
position embedding of the input, so that those that are left keep the places that they have in the whole grid.
Local position modules work on the whole grid, too, with zeros in the places of dropped tokens, as there are
beyond the edge of an image. Dropping whole rows and columns would leave a smaller grid without such places,
but tokens of LPE would then have neighbours that are not theirs in the image. A crop of the grid has no wrong
neighbours, but is just a crop of the image, which the model sees in every step anyway.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resformer_mm.registry import MODELS

from .grids import Grid


class KeptGrid(tuple):
    """A grid ``(H, W)`` of which only some tokens are computed.

    Attributes:
        kept: numbers of these tokens in the grid, row by row, in increasing order, ``(n,)``.
    """

    kept: Tensor

    def __new__(cls, grid: Grid, kept: Tensor) -> KeptGrid:
        """Return the grid with its tokens."""
        self = super().__new__(cls, map(int, grid))  # of numbers of a trace as well
        self.kept = kept
        return self

    def to_whole(self, values: Tensor, dim: int) -> Tensor:
        """Return values of all H * W tokens along ``dim``, zero for dropped ones, of those of n tokens."""
        shape = list(values.shape)
        shape[dim] = self[0] * self[1]
        return values.new_zeros(shape).index_copy(dim, self.kept, values)

    def of_whole(self, values: Tensor, dim: int) -> Tensor:
        """Return the values of the n tokens, of those of all H * W tokens along ``dim``."""
        return values.index_select(dim, self.kept)

    def pairs_of_whole(self, bias: Tensor, num_prefix_tokens: int) -> Tensor:
        """Return a bias ``(..., P + n, P + n)``, of one for the P + H * W tokens of the whole grid."""
        length = num_prefix_tokens + self[0] * self[1]
        prefix = torch.arange(num_prefix_tokens, device=self.kept.device)
        places = torch.cat((prefix, self.kept + num_prefix_tokens))
        bias = bias.expand(*bias.shape[:-2], length, length)
        return bias.index_select(-2, places).index_select(-1, places)


@MODELS.register_module()
class RandomTokenDrop(nn.Module):
    """Drop a share of the patch tokens of large images in training, as in FLIP (Li et al., 2023).

    All images of a batch keep the same tokens, which are drawn anew in every pass, on the CPU. The number of
    tokens is the same in all processes. The class token and registers are never dropped.

    Args:
        rate: share of the patch tokens that are dropped, above 0 and below 1.
        min_tokens: images with fewer patch tokens keep all.

    Attributes:
        always: whether tokens are dropped in evaluation, too, to count the operations of training.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, rate: float, min_tokens: int = 1) -> None:
        super().__init__()
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < 1:
            raise ValueError(
                f'backbone.token_drop.rate = {rate!r} must be above 0 and below 1: it is the share of the '
                'patch tokens that are dropped; backbone.token_drop=None drops none'
            )
        if isinstance(min_tokens, bool) or not isinstance(min_tokens, int) or min_tokens < 1:
            raise ValueError(f'backbone.token_drop.min_tokens = {min_tokens!r} must be a positive integer')
        self.rate, self.min_tokens = rate, min_tokens
        self.always = False

    def number(self, grid: Grid) -> int:
        """Return the number of patch tokens that a grid ``(H, W)`` keeps in training, at least one."""
        tokens = int(grid[0]) * int(grid[1])
        return tokens if tokens < self.min_tokens else max(1, round(tokens * (1 - self.rate)))

    def forward(self, patches: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Return the kept patch tokens ``(B, n, C)``, and the grid that says which they are.

        Args:
            patches: ``(B, H * W, C)``.
            grid: ``(H, W)``.
        """
        number = self.number(grid)
        if not (self.training or self.always) or number == int(patches.shape[1]):
            return patches, grid
        kept = KeptGrid(grid, self.draw(int(patches.shape[1]), number).to(patches.device, non_blocking=True))
        return kept.of_whole(patches, 1), kept

    def draw(self, tokens: int, number: int) -> Tensor:
        """Return the numbers of the kept tokens in increasing order.

        Args:
            tokens: number of tokens.
            number: how many are kept.
        """
        return torch.randperm(tokens)[:number].sort().values
