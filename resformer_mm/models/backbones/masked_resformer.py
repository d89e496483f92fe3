"""A ResFormer that sees a part of the patches, for masked pre-training."""

from __future__ import annotations

from torch import Tensor

from resformer_mm.models.layers import Grid, MaskedAttention, draw_visible
from resformer_mm.registry import MODELS

from .resformer import ResFormer


@MODELS.register_module()
class MaskedResFormer(ResFormer):
    """The encoder of a masked autoencoder (He et al., arXiv 2111.06377): its blocks see visible patches.

    Its weights are those of a :class:`ResFormer`, which loads them. Every patch has the position embedding of
    its place; in LPE, masked patches are zeros, see :class:`~resformer_mm.models.layers.MaskedAttention`.
    ``forward`` takes whole images, as in :class:`ResFormer`.

    Args:
        mask_ratio: share of masked patches.
        **kwargs: arguments of :class:`ResFormer`, with a class token; without windows, token mergers, and
            patches of other sizes.

    Raises:
        ValueError: the ratio is not between 0 and 1, or an argument does not fit masked images.
    """

    attention_class = MaskedAttention

    def __init__(self, *args, mask_ratio: float = 0.75, **kwargs) -> None:
        if not 0 < mask_ratio < 1:
            raise ValueError(f'backbone.mask_ratio must be between 0 and 1, got {mask_ratio}')
        for name in ('window_size', 'token_merger', 'token_drop', 'patch_embed'):
            if kwargs.get(name):
                raise ValueError(
                    f'backbone.{name}={kwargs[name]!r} does not fit masked images: leave it out of the '
                    'pre-training'
                )
        super().__init__(*args, **kwargs)
        if not self.with_cls_token:
            raise ValueError('a masked autoencoder needs backbone.with_cls_token=True')
        self.mask_ratio = mask_ratio

    def forward_masked(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Grid]:
        """Return what the visible patches become, and which are masked.

        Args:
            image: ``(B, C_in, h, w)``.

        Returns:
            Normalised class token and visible patches ``(B, 1 + K, C)``; the mask ``(B, H * W)``, 1 for
            masked patches; the place of every patch ``(B, H * W)`` in a sequence of first the visible and
            then the masked ones; and the token grid ``(H, W)``.
        """
        tokens, grid = self.patch_embed(image)
        position = self.global_position(grid)
        if position is not None:
            tokens = tokens + position
        batch, length, _ = tokens.shape
        kept = max(1, int(length * (1 - self.mask_ratio)))
        visible, places = draw_visible(batch, length, kept, tokens.device)
        tokens = self.drop(self._prepend_tokens(visible.gather(tokens)))
        for index in range(self.num_layers):
            tokens = self._run_block(index, tokens, grid, False, padding=visible)
        tokens = self._without_registers(self._finish(tokens, grid, self.num_layers - 1))
        return tokens, (places >= kept).to(tokens.dtype), places, grid
