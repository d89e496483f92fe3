"""Forms of the output of a backbone: class token, tokens, map, mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from resformer_mm.models.layers import BatchPadding, TokenGrid

from .saved import SavedBackbone

OUT_TYPES = ('cls_token', 'raw', 'featmap', 'avg_featmap')


class OutputForms(SavedBackbone):
    """Base of backbones that return tokens in the form given by ``out_type``, and pooled ones."""

    out_type: str
    output_cls_token: bool
    with_cls_token: bool
    num_registers: int

    forward_tokens: Callable[..., tuple[list[Tensor], Any]]

    @staticmethod
    def _check_out_type(out_type: str, with_cls_token: bool) -> str:
        if out_type not in OUT_TYPES:
            raise ValueError(f'out_type={out_type!r} is unknown: choose from {OUT_TYPES}')
        if out_type == 'cls_token' and not with_cls_token:
            raise ValueError(
                "out_type='cls_token' needs with_cls_token=True: without a class token, set "
                "out_type='avg_featmap' for a classifier or 'featmap' for maps"
            )
        return out_type

    def forward_pooled(self, image: Tensor, pool: str) -> tuple[tuple[Tensor | list[Tensor], ...], Tensor]:
        """Return what :meth:`forward` returns, and the tokens of the last out index pooled to ``(B, C)``.

        The pooled tokens are what scale consistency compares (paper, Section 3.2).

        Args:
            image: ``(B, C_in, h, w)``.
            pool: 'cls', the class token, or 'gap', the mean of the patch tokens.
        """
        # A call of the module: compilers, sharding wrappers and hooks do not see calls of its other methods.
        return self(image, pool=pool)

    def _outputs_and_pooled(
        self, image: Tensor, pool: str
    ) -> tuple[tuple[Tensor | list[Tensor], ...], Tensor]:
        outputs, grids = self.forward_tokens(image, pool == 'cls' and self.out_type == 'cls_token')
        return self._formatted(outputs, grids, pool)

    def _formatted(self, outputs: Sequence[Tensor], grids: Sequence[TokenGrid], pool: str | None) -> Any:
        """Return what ``forward`` returns for tokens, or with ``pool`` what :meth:`forward_pooled` does."""
        feats = tuple(self.format_output(tokens, grid) for tokens, grid in zip(outputs, grids))
        if pool is None:
            return self._as_output(feats)
        tokens = outputs[-1]
        return feats, tokens[:, 0] if pool == 'cls' else self.patch_tokens(tokens).mean(dim=1)

    def _as_output(self, feats: tuple) -> Any:
        """Return the outputs of all out indices as ``forward`` returns them."""
        return feats

    def format_output(
        self, tokens: Tensor, grid: TokenGrid, padding: BatchPadding | None = None
    ) -> Tensor | list[Tensor]:
        """Return tokens ``(B, N, C)``, which are zero in the padding, in the form given by ``out_type``.

        With ``output_cls_token``, this is the list of the map and the class token.
        """
        if self.out_type == 'raw':
            return self._without_registers(tokens)
        if self.out_type == 'cls_token':
            return tokens[:, 0]
        patches = self.patch_tokens(tokens)
        if self.out_type == 'avg_featmap':
            if padding is not None:
                return patches.sum(dim=1) / padding.valid.sum(dim=1, keepdim=True)
            return patches.mean(dim=1)
        # A view of the tokens would be a channels-last map. Convolutions keep this layout, and RoIAlign of
        # mmcv 2 reads it as if it were contiguous, with wrong results and no error.
        # `contiguous` would ask for the layout, which an exported program cannot know.
        featmap = patches.transpose(1, 2).unflatten(2, grid).clone(memory_format=torch.contiguous_format)
        return [featmap, tokens[:, 0]] if self.output_cls_token else featmap

    @property
    def num_prefix_tokens(self) -> int:
        """Number of tokens before the patch tokens: class token and registers."""
        return int(self.with_cls_token) + self.num_registers

    def patch_tokens(self, tokens: Tensor) -> Tensor:
        """Return the tokens without the class token and the registers."""
        return tokens[:, self.num_prefix_tokens :] if self.num_prefix_tokens else tokens

    def _without_registers(self, tokens: Tensor) -> Tensor:
        if not self.num_registers:
            return tokens
        patches = self.patch_tokens(tokens)
        return torch.cat((tokens[:, :1], patches), dim=1) if self.with_cls_token else patches
