"""Token mergers: a token grid becomes a smaller one by attention inside cells of at most 2 x 2 tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resformer_mm.compat.tracing import is_compiling, is_exporting
from resformer_mm.registry import MODELS

from .batch_padding import ImageGroups
from .block import MLP
from .grids import Grid


class GridMerger(nn.Module):
    """Base of the token mergers, which shrink a grid step by step with the same weights in every step.

    A step makes one token ``z`` of the tokens ``x_1 ... x_n`` in each cell of the next grid, which are in one
    or two rows and one or two columns (ViTAR, arXiv 2403.18361, Section 3.1)::

        y = mean(x_1 ... x_n)
        y = y + proj(softmax(q(norm1(y)) k(norm1(x))^T / sqrt(d)) v(norm1(x)))
        z = y + mlp(norm2(y))

    Subclasses say which grids follow one another (:meth:`steps`), and which tokens a cell has
    (:meth:`edges`). A grid without steps stays unchanged.

    Args:
        embed_dims: width C.
        num_heads: number of heads; C must be a multiple of it.
        feedforward_channels: hidden width of the MLP.
        index: block of the backbone whose input is merged, counted from 0. With 0, tokens are merged before
            the global position is added, which is then that of the merged grid.
        drop_rate: dropout after the projection and in the MLP.

    Attributes:
        factor: tokens along each side that become one, the same in every image; None if it depends on the
            grid.

    Raises:
        ValueError: ``embed_dims`` is not a multiple of ``num_heads``, or ``index`` is negative.
    """

    factor: int | None = None

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        index: int = 0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if not is_positive(num_heads) or embed_dims % num_heads:
            raise ValueError(
                f'backbone.token_merger.num_heads must divide the width {embed_dims}, got {num_heads!r}'
            )
        if not is_positive(feedforward_channels):
            raise ValueError(
                'backbone.token_merger.feedforward_channels must be a positive integer, got '
                f'{feedforward_channels!r}'
            )
        if index != 0 and not is_positive(index):
            raise ValueError(
                f'backbone.token_merger.index must be the number of a block, from 0 on, got {index!r}'
            )
        self.num_heads = num_heads
        self.index = index
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.query = nn.Linear(embed_dims, embed_dims)
        self.key_value = nn.Linear(embed_dims, 2 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.drop = nn.Dropout(drop_rate)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = MLP(embed_dims, feedforward_channels, drop_rate)

    def steps(self, grid: Grid) -> list[Grid]:
        """Return the grid after each step from a grid ``(H, W)``."""
        raise NotImplementedError

    def edges(self, length: int, number: int, device: torch.device) -> Tensor:
        """Return the first token of each cell along an axis, and the end of the last cell, ``(number + 1,)``.

        Args:
            length: tokens along the axis.
            number: cells along the axis, of one or two tokens each.
            device: device of the result.
        """
        raise NotImplementedError

    def merged_grid(self, grid: Grid) -> Grid:
        """Return the grid that :meth:`forward` makes of a grid ``(H, W)``."""
        return [grid, *self.steps(grid)][-1]

    def owners(self, grid: Grid) -> tuple[list[int], list[int]]:
        """Return the merged row that each row of a grid ``(H, W)`` becomes a part of, and the columns."""
        rows, columns = torch.arange(grid[0]), torch.arange(grid[1])
        for following in self.steps(grid):
            rows = self._owners(grid[0], following[0])[rows]
            columns = self._owners(grid[1], following[1])[columns]
            grid = following
        return rows.tolist(), columns.tolist()

    def _owners(self, length: int, number: int) -> Tensor:
        sizes = self.edges(length, number, torch.device('cpu')).diff()
        return torch.repeat_interleave(torch.arange(number), sizes)

    def forward(self, tokens: Tensor, grid: Grid, grids: Sequence[Grid] | None = None) -> Tensor:
        """Return the tokens of the merged grid, ``(B, H' * W', C)``.

        Args:
            tokens: patch tokens ``(B, H * W, C)``, row by row.
            grid: ``(H, W)``.
            grids: the token grid ``(H_i, W_i)`` of each image of a padded batch. The result for an image is
                then that for the image alone, and zero in the padding. None: all have ``grid``.
        """
        if grids is not None:
            return self._merge_each(tokens, grid, grids)
        steps = self.steps(grid)
        if not steps and torch.is_grad_enabled():
            # Distributed training waits for a gradient of every parameter: here it is an exact zero.
            tokens = tokens + 0 * sum(parameter.sum() for parameter in self.parameters())
        for following in steps:
            tokens = self._step(tokens, grid, following)
            grid = following
        return tokens

    def _merge_each(self, tokens: Tensor, grid: Grid, grids: Sequence[Grid]) -> Tensor:
        groups = ImageGroups(grids)
        parts = groups.cut(tokens.transpose(1, 2).unflatten(2, grid))
        alone = [part.flatten(2).transpose(1, 2) for part in parts]
        merged = [self.forward(part, own) for part, own in zip(alone, groups.sizes)]
        placed = groups.with_sizes([self.merged_grid(own) for own in groups.sizes])
        return placed.join_tokens(merged, self.merged_grid(grid), num_prefix_tokens=0)

    def _step(self, tokens: Tensor, grid: Grid, following: Grid) -> Tensor:
        """Return the tokens of the next grid, ``(B, n, C)`` with n = h * w."""
        cells = self._split(tokens, grid, following)
        mean = cells.mean(dim=2)
        query = self.query(self.norm1(mean)).unsqueeze(2)
        key_value = self._split(self.key_value(self.norm1(tokens)), grid, following)
        merged = mean + self.drop(self.proj(self._attend(query, key_value)))
        merged = merged + self.mlp(self.norm2(merged))
        if _is_symbolic(grid):
            # The program has steps for the largest image, and those that change nothing in this one.
            index = self._tokens_of_cells(grid, following, tokens.device)
            merged = torch.where((index[:, 0] != index[:, -1]).any(), merged, cells[:, :, 0])
        return merged

    def _split(self, x: Tensor, grid: Grid, following: Grid) -> Tensor:
        """Return ``(B, n, k, D)`` with the k tokens of each cell of the next grid, of ``(B, H * W, D)``."""
        (height, width), (rows, columns) = grid, following
        # Compiled code and exported programs need not depend on whether a side is odd.
        if is_compiling() or height % rows or width % columns:
            index = self._tokens_of_cells(grid, following, x.device)
            return x.index_select(1, index.flatten()).unflatten(1, index.shape)
        x = x.unflatten(1, (rows, height // rows, columns, width // columns))
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _tokens_of_cells(self, grid: Grid, following: Grid, device: torch.device) -> Tensor:
        """Return the numbers of the tokens of each cell, ``(n, k)``, k = 1, 2 or 4.

        A cell that has a single row or column among cells of two has it twice. All its tokens are then
        repeated alike, which changes neither their mean nor what attention to them gives.
        """
        axes = []
        for length, number in zip(grid, following):
            if not is_exporting() and length == number:
                axes.append(torch.arange(number, device=device).unsqueeze(1))
                continue
            edges = self.edges(length, number, device)
            first, sizes = edges[:-1], edges[1:] - edges[:-1]
            second = first + (sizes > 1).long()
            if _is_symbolic(grid):
                # An image for which the steps of the program are too few must fail: there is no such token.
                second = second + (sizes > 2).long() * (grid[0] * grid[1])
            axes.append(torch.stack((first, second), dim=1))
        rows, columns = axes
        return (rows[:, None, :, None] * grid[1] + columns[:, None]).flatten(2, 3).flatten(0, 1)

    def _attend(self, query: Tensor, key_value: Tensor) -> Tensor:
        """Return what is projected, ``(B, n, C)``, of ``(B, n, 1, C)`` and ``(B, n, k, 2 * C)``."""
        query, key, value = (
            x.unflatten(3, (self.num_heads, -1)) for x in (query, *key_value.chunk(2, dim=3))
        )
        # Not the fused kernel, which is made for long sequences: these are at most four tokens for each of
        # thousands of cells.
        scores = (query * key).sum(dim=4, keepdim=True) * key.shape[4] ** -0.5
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return (scores.softmax(dim=2).to(value.dtype) * value).sum(dim=2).flatten(2)


def _is_symbolic(grid: Grid) -> bool:
    """Return whether a program is being exported for grids of any size."""
    return is_exporting() and any(isinstance(side, torch.SymInt) for side in grid)


def is_positive(number: object) -> bool:
    """Return whether a value of a config is a positive integer."""
    return isinstance(number, int) and not isinstance(number, bool) and number > 0


@MODELS.register_module()
class TokenMerger(GridMerger):
    """The adaptive token merger of ViTAR: grids of any size become a grid of at most a given size.

    While a side is longer than that of the target, each step halves it, but not below the target. Where a
    step does not halve it exactly, cells of two tokens are spread evenly among those of one, as the padding
    in ViTAR's "grid padding". Sides that are not longer than those of the target stay as
    they are, each by itself.

    An exported program for images of any size has a fixed number of steps, and passes tokens on unchanged
    where an image needs fewer; see :attr:`longest_sides`.

    The cost of the blocks is bounded. But the size of a merged token in pixels depends on that of the image:
    for heads that need a map of a fixed stride there is :class:`StridedTokenMerger`.

    Args:
        embed_dims: width C.
        num_heads: number of heads; C must be a multiple of it.
        feedforward_channels: hidden width of the MLP.
        grid: target ``(H, W)``; a number for a square one.
        index: see :class:`GridMerger`, as is ``drop_rate``.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """

    exported_steps = 4  # from 16 times the sides of the target

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        grid: int | Sequence[int] = (14, 14),
        index: int = 0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(embed_dims, num_heads, feedforward_channels, index, drop_rate)
        sides = tuple(grid) if isinstance(grid, Sequence) else (grid, grid)
        if len(sides) != 2 or not all(map(is_positive, sides)):
            raise ValueError(
                'backbone.token_merger.grid must be a number of tokens or two, rows and columns, got '
                f'{grid!r}'
            )
        self.grid: Grid = sides

    def steps(self, grid: Grid) -> list[Grid]:
        """Return the grid after each step from a grid ``(H, W)``."""
        (rows, columns), (target_rows, target_columns) = grid, self.grid
        found: list[Grid] = []
        if _is_symbolic(grid):
            for _ in range(self.exported_steps - 1):
                rows, columns = _shorten_any(rows, target_rows), _shorten_any(columns, target_columns)
                found.append((rows, columns))
            last = torch.sym_min(grid[0], target_rows), torch.sym_min(grid[1], target_columns)
            return [*found, last]
        while rows > target_rows or columns > target_columns:
            rows, columns = _shorten(rows, target_rows), _shorten(columns, target_columns)
            found.append((rows, columns))
        return found

    @property
    def longest_sides(self) -> Grid:
        """The largest grid that an exported program for images of any size merges to the target."""
        return self.grid[0] << self.exported_steps, self.grid[1] << self.exported_steps

    def edges(self, length: int, number: int, device: torch.device) -> Tensor:
        """Return the edges of cells whose sizes are spread evenly, see :meth:`GridMerger.edges`."""
        return (torch.arange(number + 1, device=device) * length).div(number, rounding_mode='floor')


def _shorten(side: int, target: int) -> int:
    return max((side + 1) // 2, target) if side > target else side


def _shorten_any(side: int, target: int) -> int:
    """Return the same without a branch, which an exported program would take for every size."""
    return torch.sym_max((side + 1) // 2, torch.sym_min(side, target))


@MODELS.register_module()
class StridedTokenMerger(GridMerger):
    """A token merger for maps of a fixed stride: every ``factor`` x ``factor`` tokens become one.

    Each step halves both sides and rounds up, unless there is a single token. Cells have two rows and
    columns, but for the last ones of an odd side. Merged tokens are therefore where larger patches would be,
    and the stride of maps is ``factor`` times the patch size in every image. Heads of detectors and
    segmentors need this; the strides in their configs are those of the merged map.

    Args:
        embed_dims: width C.
        num_heads: number of heads; C must be a multiple of it.
        feedforward_channels: hidden width of the MLP.
        factor: tokens along each side that become one, a power of two.
        index: see :class:`GridMerger`, as is ``drop_rate``.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """

    factor: int

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        factor: int = 2,
        index: int = 0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(embed_dims, num_heads, feedforward_channels, index, drop_rate)
        if not is_positive(factor) or factor < 2 or factor & (factor - 1):
            raise ValueError(
                f'backbone.token_merger.factor must be a power of two, 2 or more, got {factor!r}'
            )
        self.factor = factor

    def steps(self, grid: Grid) -> list[Grid]:
        """Return the grid after each step from a grid ``(H, W)``."""
        found: list[Grid] = []
        for _ in range(self.factor.bit_length() - 1):
            if not _is_symbolic(grid) and grid == (1, 1):
                break
            grid = (grid[0] + 1) // 2, (grid[1] + 1) // 2
            found.append(grid)
        return found

    def edges(self, length: int, number: int, device: torch.device) -> Tensor:
        """Return the edges of cells of two tokens, see :meth:`GridMerger.edges`."""
        return (2 * torch.arange(number + 1, device=device)).clamp(max=length)
