"""One forward pass for several batches, each of its own size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from resformer_mm.models.layers import (
    BatchPadding,
    Draws,
    Grid,
    ImageGroups,
    Packing,
    SubsetDropPath,
    TokenGrid,
    token_grids,
)

from .merging import TokenMerging
from .output_forms import OutputForms

FORWARD = {'forward': 'forward_packed', 'forward_cls': 'forward_cls_packed', '_mlp': '_mlp_packed'}
"""Methods of blocks and attention, and those that do the same for several batches."""
ADD = {'add': 'add_packed'}
"""The same of stochastic depth."""


class CopiesForward(TokenMerging):
    """Base of backbones that take the copies of a batch together."""

    blocks: nn.ModuleList

    repeated: tuple[Callable, ...]
    """Methods of the class that :meth:`forward_copies` repeats for several batches."""

    _embed: Callable[..., tuple[Tensor, TokenGrid]]
    _finish: Callable[..., Tensor]

    @property
    def packs_copies(self) -> bool:
        """Whether :meth:`forward_copies` computes what the class computes batch by batch.

        Not for subclasses of the backbone, of blocks or of attention that override the forward pass of one
        batch alone, for blocks in wrappers, and while parts of blocks have hooks, which expect the tokens of
        one batch.
        """
        if any(
            getattr(type(self), method.__name__) is not method
            for method in (OutputForms.forward_pooled, *self.repeated)
        ):
            return False
        for block in self.blocks:
            attentions = [getattr(block, name) for name in ('attn', 'temporal_attn') if hasattr(block, name)]
            if not all(_packs(type(module), FORWARD) for module in (block, *attentions)):
                return False
            if not _packs(type(block.drop_path), ADD):
                return False
        return not any(_has_hooks(module) for module in self.blocks.modules())

    @property
    def _packs_padded(self) -> bool:
        """Whether the images of a padded batch are taken as batches of one grid each.

        Not in training with :class:`SubsetDropPath`, which chooses among the images of a batch.
        """
        if not self.packs_copies:
            return False
        return not (self.training and any(isinstance(one, SubsetDropPath) for one in self.modules()))

    def forward_copies(self, copies: Sequence[Tensor], pool: str | None = None) -> list:
        """Return what :meth:`forward`, or with ``pool`` :meth:`forward_pooled`, returns for several batches.

        Norms and linear layers take the tokens of all batches as one matrix, which saves time where batches
        or images are small; patches, positions and attention are computed batch by batch.

        Stochastic depth is drawn in the order of one batch after the other, and is therefore the same as in
        separate passes; dropout is drawn for all batches at once, and has the same distribution.

        Args:
            copies: batches of images ``(B_i, C_in, h_i, w_i)`` or clips ``(B_i, C_in, T_i, h_i, w_i)``, each
                of its own size.
            pool: as in :meth:`forward_pooled`; None pools nothing.
        """
        return self(list(copies), pool=pool)

    def _outputs_of_copies(self, copies: Sequence[Tensor], pool: str | None) -> list:
        cls_only = self.out_type == 'cls_token' and pool in (None, 'cls')
        outputs, grids = self._tokens_of_copies(copies, cls_only)
        return [self._formatted(tokens, own, pool) for tokens, own in zip(outputs, grids)]

    def _tokens_of_padded(
        self, image: Tensor, padding: BatchPadding, cls_only: bool
    ) -> tuple[list[Tensor], list[Grid]]:
        """Return what :meth:`forward_tokens` returns for a padded batch.

        Tokens are zero in the padding. Images of one grid are taken as a batch, without their padding, which
        therefore costs nothing and needs no masks.

        Args:
            image: ``(B, C_in, h, w)``, zero in the padding.
            padding: the token grids of the images.
            cls_only: whether to return only the class token for the last out index.
        """
        groups = ImageGroups(padding.grids)
        extent = token_grids([(image.shape[2], image.shape[3])], self.patch_size)[0]
        by_group, _ = self._tokens_of_copies(groups.cut(image, self.patch_size), cls_only)
        outputs, extents = [], []
        for index, tokens in zip(self.out_indices, zip(*by_group)):
            extents.append(self.grid_after(extent, index))
            if cls_only and index == self.out_indices[-1]:
                outputs.append(groups.join(tokens))
            else:
                placed = groups.with_sizes([self.grid_after(own, index) for own in groups.sizes])
                outputs.append(placed.join_tokens(tokens, extents[-1], self.num_prefix_tokens))
        return outputs, extents

    def _tokens_of_copies(
        self, copies: Sequence[Tensor], cls_only: bool
    ) -> tuple[list[list[Tensor]], list[list[TokenGrid]]]:
        """Return the tokens ``(B_i, N_i, C)`` of every out index for each batch, and their token grids."""
        embedded, grids = zip(*(self._embed(one) for one in copies))
        packing, rows = self._pack(embedded, grids)
        draws = self._draw_paths(packing, embedded[0])
        outputs: list[list[Tensor]] = [[] for _ in copies]  # by batch, then by out index
        of_outputs: list[list[TokenGrid]] = [[] for _ in copies]
        for index, of_block in enumerate(draws):
            if self._merges_at(index):
                batches = packing.unpack(rows)
                merged, grids = zip(*(self._merge(tokens, grid) for tokens, grid in zip(batches, grids)))
                packing, rows = self._pack(merged, grids)
            block: Any = self.blocks[index]
            is_short = cls_only and index == self.out_indices[-1]
            run_block = block.forward_cls_packed if is_short else block.forward_packed
            rows = self._run(run_block, rows, packing, of_block)
            if index in self.out_indices:
                parts = packing.unpack_samples(rows) if is_short else packing.unpack(rows)
                for number, (part, grid) in enumerate(zip(parts, grids)):
                    outputs[number].append(self._finish(part, grid, index))
                    of_outputs[number].append(grid)
        return outputs, of_outputs

    def _pack(self, batches: Sequence[Tensor], grids: Sequence[TokenGrid]) -> tuple[Packing, Tensor]:
        """Return the tokens ``(B_i, N_i, C)`` of several batches as rows, and where they lie."""
        shapes = [(tokens.shape[0], tokens.shape[1]) for tokens in batches]
        packing = Packing(shapes, [self._block_grid(grid) for grid in grids])
        return packing, packing.pack(batches)

    def _block_grid(self, grid: TokenGrid) -> TokenGrid:
        """Return the grid that the blocks receive."""
        return grid

    def _draw_paths(self, packing: Packing, like: Tensor) -> list[list[Draws]]:
        """Draw stochastic depth: by block, by branch, by batch, in the order of one batch after the other."""
        blocks: list[Any] = [*self.blocks[: self.out_indices[-1] + 1]]
        by_batch = [
            [[one.drop_path.draw(like, number) for _ in range(one.num_branches)] for one in blocks]
            for number, _ in packing.shapes
        ]
        return [list(zip(*of_block)) for of_block in zip(*by_batch)]


def _packs(kind: type, pairs: Mapping[str, str]) -> bool:
    """Return whether no class of a module's kind overrides one of two methods that belong together."""
    return all(_owner(kind, one) is _owner(kind, packed) for one, packed in pairs.items())


def _owner(kind: type, method: str) -> type | None:
    return next((base for base in kind.__mro__ if method in base.__dict__), None)


def _has_hooks(module: nn.Module) -> bool:
    return any(
        (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
    )
