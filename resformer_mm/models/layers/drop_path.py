"""Stochastic depth: residual branches that are dropped in training (https://arxiv.org/abs/1603.09382)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from resformer_mm.registry import MODELS

from .packing import Packing

Branch = Callable[[Tensor, Tensor | None], Tensor]  # takes samples, and which of the batch they are
PackedBranch = Callable[[Tensor, Packing], Tensor]  # takes rows, and where the samples are among them
Draws = Sequence[Tensor | None]  # of a branch, for each of several batches


@MODELS.register_module()
class DropPath(nn.Module):
    """Stochastic depth: in training, drop the residual branch of whole samples with probability ``rate``.

    Every sample is drawn on its own. Branches are computed for all samples, and multiplied by 0, or by
    ``1 / (1 - rate)``, which preserves the expectation.

    Args:
        rate: at least 0 and less than 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, ...)`` with some samples zeroed."""
        factors = self.draw(x, x.shape[0])
        return x if factors is None else x * factors.view(-1, *(1,) * (x.ndim - 1))

    def draw(self, like: Tensor, number: int) -> Tensor | None:
        """Draw the factor of each of ``number`` samples, of the type of a tensor; None for ones."""
        if not self.training or self.rate == 0.0:
            return None
        keep = 1.0 - self.rate
        return like.new_empty(number).bernoulli_(keep).div_(keep)

    def add(self, base: Tensor, tokens: Tensor, branch: Branch) -> Tensor:
        """Return ``base + branch(tokens)``, where some samples only have their base.

        Args:
            base: ``(B, M, C)``.
            tokens: ``(B, N, C)``.
            branch: takes tokens of samples, and their numbers in the batch, or None for all of them; returns
                ``(B, M, C)``.
        """
        return base + self(branch(tokens, None))

    def add_packed(
        self,
        base: Tensor,
        rows: Tensor,
        draws: Draws,
        branch: PackedBranch,
        packing: Packing,
        into: Packing | None = None,
    ) -> Tensor:
        """Return what :meth:`add` returns for several batches.

        Args:
            base: rows ``(M, C)``.
            rows: ``(R, C)``.
            draws: what :meth:`draw` returned for each batch.
            branch: takes rows and their packing; returns ``(M, C)``.
            packing: where the batches are among the rows.
            into: where they are among the rows of the base, if not in the same places.
        """
        added = branch(rows, packing)
        factors = [draw for draw in draws if draw is not None]  # of all batches, or of none
        if not factors:
            return base + added
        return base + added * (into or packing).spread(torch.cat(factors)).to(added.dtype)

    def extra_repr(self) -> str:
        """Return the rate."""
        return f'rate={self.rate}'


@MODELS.register_module()
class SubsetDropPath(DropPath):
    """Stochastic depth that saves the work of dropped branches (DINOv2, https://arxiv.org/abs/2304.07193).

    Of B samples, exactly ``max(1, round(B * (1 - rate)))`` keep the branch, which is computed for them alone
    and multiplied by B over their number. They are drawn without replacement, so every sample has the same
    probability, and the expectation is preserved. This differs from :class:`DropPath`, where their number is
    binomial and samples are independent: the share of dropped branches is ``rate`` rounded to a multiple of
    1/B, so rates below 1/(2B), and every rate at B = 1, drop nothing. The frames of 'space_only' clips are
    samples of their own.

    Parameters of a branch always receive a gradient, for which distributed training waits.

    Args:
        rate: at least 0 and less than 1.
    """

    def draw(self, like: Tensor, number: int) -> Tensor | None:
        """Draw which of ``number`` samples keep the branch, on the device of a tensor; None for all."""
        if not self.training or self.rate == 0.0:
            return None
        kept = self.num_kept(number)
        return None if kept == number else torch.randperm(number, device=like.device)[:kept]

    def num_kept(self, number: int) -> int:
        """Return how many of ``number`` samples keep the branch."""
        return max(1, round(number * (1.0 - self.rate)))

    def add(self, base: Tensor, tokens: Tensor, branch: Branch) -> Tensor:
        """Return ``base + branch(tokens)`` for the kept samples, and the base of the others."""
        number = tokens.shape[0]
        kept = self.draw(tokens, number)
        if kept is None:
            return base + branch(tokens, None)
        # Not `tokens[kept]`, whose backward pass adds up one number at a time.
        added = branch(tokens.index_select(0, kept), kept)
        return base.index_add(0, kept, added.to(base.dtype), alpha=number / self.num_kept(number))

    def add_packed(
        self,
        base: Tensor,
        rows: Tensor,
        draws: Draws,
        branch: PackedBranch,
        packing: Packing,
        into: Packing | None = None,
    ) -> Tensor:
        """Return what :meth:`add` returns for several batches, see :meth:`DropPath.add_packed`."""
        if all(draw is None for draw in draws):
            return base + branch(rows, packing)
        into = into or packing
        numbers = [number for number, _ in packing.shapes]
        kept = [
            torch.arange(number, device=rows.device) if draw is None else draw
            for draw, number in zip(draws, numbers)
        ]
        part = packing.subset([len(one) for one in kept])
        added = branch(rows.index_select(0, packing.rows_of(kept)), part).to(base.dtype)
        factors = [added.new_full((len(one),), number / len(one)) for one, number in zip(kept, numbers)]
        scaled = added * into.subset([len(one) for one in kept]).spread(torch.cat(factors))
        return base.index_add(0, into.rows_of(kept), scaled)
