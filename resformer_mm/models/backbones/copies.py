"""One forward pass for several batches, each of its own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resformer_mm.models.layers import Attention, Block, BranchFactors, Packing, TokenGrid

from .output_forms import OutputForms


class CopiesForward(OutputForms):
    """Base of backbones that take the copies of a batch together."""

    out_indices: tuple[int, ...]
    blocks: nn.ModuleList

    repeated: tuple[Callable, ...]
    """Methods of the class that :meth:`forward_copies` repeats for several batches."""

    _embed: Callable[..., tuple[Tensor, TokenGrid]]
    _finish: Callable[..., Tensor]
    _run: Callable[..., Tensor]

    @property
    def packs_copies(self) -> bool:
        """Whether :meth:`forward_copies` computes what the class computes batch by batch.

        Not for subclasses with another forward pass, for blocks of other classes or in wrappers, and while
        parts of blocks have hooks, which expect the tokens of one batch.
        """
        if any(
            getattr(type(self), method.__name__) is not method
            for method in (OutputForms.forward_pooled, *self.repeated)
        ):
            return False
        for block in self.blocks:
            if type(block) is not Block or type(block.attn).forward is not Attention.forward:
                return False
        return not any(_has_hooks(module) for module in self.blocks.modules())

    def forward_copies(self, images: Sequence[Tensor], pool: str | None = None) -> list:
        """Return what :meth:`forward`, or with ``pool`` :meth:`forward_pooled`, returns for several batches.

        Norms and linear layers take the tokens of all batches as one matrix, which saves time where batches
        or images are small; patches, positions and attention are computed batch by batch.

        Args:
            images: batches ``(B_i, C_in, h_i, w_i)``, each of its own size.
            pool: as in :meth:`forward_pooled`; None pools nothing.
        """
        return self(list(images), pool=pool)

    def _outputs_of_copies(self, images: Sequence[Tensor], pool: str | None) -> list:
        cls_only = self.out_type == 'cls_token' and pool in (None, 'cls')
        embedded = [self._embed(image) for image in images]
        packing = Packing(*zip(*embedded))
        factors = self._draw_factors([image.shape[0] for image in images], embedded[0][0])
        rows = packing.pack([tokens for tokens, _ in embedded])
        outputs: list[list[Tensor]] = [[] for _ in images]  # by batch, then by out index
        for index in range(self.out_indices[-1] + 1):
            block: Any = self.blocks[index]
            is_short = cls_only and index == self.out_indices[-1]
            run_block = block.forward_cls_packed if is_short else block.forward_packed
            rows = self._run(run_block, rows, packing, factors[index])
            if index in self.out_indices:
                parts = packing.unpack_samples(rows) if is_short else packing.unpack(rows)
                for own, part, grid in zip(outputs, parts, packing.grids):
                    own.append(self._finish(part, grid, index))
        return [self._formatted(tokens, grid, pool) for tokens, grid in zip(outputs, packing.grids)]

    def _draw_factors(self, batches: Sequence[int], like: Tensor) -> list[BranchFactors]:
        """Draw stochastic depth for every block, in the order in which batch by batch would draw it."""

        def joined(draws: Sequence[Tensor | None]) -> Tensor | None:
            found = [draw for draw in draws if draw is not None]
            return torch.cat(found) if found else None

        drop_paths: list[Any] = [block.drop_path for block in self.blocks[: self.out_indices[-1] + 1]]
        draws = [
            [(one.factors(like, batch), one.factors(like, batch)) for one in drop_paths] for batch in batches
        ]
        return [
            (joined([attn for attn, _ in of_block]), joined([mlp for _, mlp in of_block]))
            for of_block in zip(*draws)
        ]


def _has_hooks(module: nn.Module) -> bool:
    return any(
        (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
    )
