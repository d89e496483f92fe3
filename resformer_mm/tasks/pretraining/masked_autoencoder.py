"""Masked autoencoders for images of any size (He et al., arXiv 2111.06377)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.models import MAE, MAEPretrainDecoder, MAEPretrainHead
from torch import Tensor, nn

from resformer_mm.engine.objective import enumerate_copies
from resformer_mm.models.layers import Grid, sinusoid_map
from resformer_mm.registry import MODELS


@MODELS.register_module()
class MultiResolutionMAE(MAE):
    """:class:`mmpretrain.models.MAE` of images at one or several resolutions per step.

    The loss is the mean over the resolutions; every resolution of an image has a mask of its own. The logged
    terms, e.g. ``loss_64``, contain the factor 1/r and add up to ``loss``. Features are those of
    whole images.

    Args:
        backbone: config of a :class:`~resformer_mm.models.backbones.masked_resformer.MaskedResFormer`.
        neck: config of an :class:`AnySizeMAEDecoder`.
        head: config of an :class:`AnySizeMAEHead`.
        **kwargs: arguments of :class:`mmpretrain.models.MAE`.

    Raises:
        ValueError: the backbone has no ``forward_masked``, or the decoder takes one size alone.
    """

    def __init__(self, backbone: dict, neck: dict, head: dict, **kwargs: Any) -> None:
        super().__init__(backbone, neck, head, **kwargs)
        if not hasattr(self.backbone, 'forward_masked'):
            raise ValueError(
                f'model.backbone of type {type(self.backbone).__name__} does not mask images: set its type '
                'to resformer_mm.MaskedResFormer'
            )
        if not isinstance(self.neck, AnySizeMAEDecoder):
            raise ValueError(
                f'model.neck of type {type(self.neck).__name__} decodes images of one size alone: set its '
                'type to resformer_mm.AnySizeMAEDecoder'
            )

    def extract_feat(self, inputs: Tensor) -> tuple:
        """Return the features of whole images, as the backbone does."""
        return self.backbone(inputs)

    def loss(
        self, inputs: Tensor | Sequence[Tensor], data_samples: list | None = None, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Return the loss of every resolution, by name.

        Args:
            inputs: normalised images ``(B, 3, H, W)``, or a list of one batch per resolution.
            data_samples: not used.
            **kwargs: not used.
        """
        losses = {}
        for one in enumerate_copies(inputs):
            latent, mask, places, grid = self.backbone.forward_masked(one.inputs)
            predicted = self.neck(latent, places, grid)
            losses[f'loss_{one.name}'] = self.head.loss(predicted, one.inputs, mask) / one.number
        return losses


@MODELS.register_module()
class AnySizeMAEDecoder(MAEPretrainDecoder):
    """:class:`mmpretrain.models.MAEPretrainDecoder` for any token grid.

    The position embedding is the sine-cosine map of :func:`~resformer_mm.models.layers.sinusoid_map`, which
    follows the size of the image, in the place of a table for one square grid.

    Args:
        decoder_embed_dim: width, a multiple of 4.
        **kwargs: arguments of :class:`mmpretrain.models.MAEPretrainDecoder` except ``num_patches``.

    Raises:
        ValueError: the width is not a multiple of 4.
    """

    def __init__(self, *, decoder_embed_dim: int = 512, **kwargs: Any) -> None:
        if decoder_embed_dim % 4:
            raise ValueError(f'model.neck.decoder_embed_dim must be a multiple of 4, got {decoder_embed_dim}')
        super().__init__(num_patches=0, decoder_embed_dim=decoder_embed_dim, **kwargs)
        del self.decoder_pos_embed

    def init_weights(self) -> None:
        """Initialise the mask token, and what ``init_cfg`` says."""
        BaseModule.init_weights(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, latent: Tensor, places: Tensor, grid: Grid) -> Tensor:
        """Return the predicted patches ``(B, H * W, patch_size ** 2 * C)``.

        Args:
            latent: class token and visible patches, ``(B, 1 + K, C)``.
            places: place of every patch in a sequence of first the visible, then the masked ones,
                ``(B, H * W)``.
            grid: ``(H, W)``.
        """
        latent = self.decoder_embed(latent)
        batch, length = places.shape
        masked = self.mask_token.to(latent.dtype).expand(batch, length + 1 - latent.shape[1], -1)
        patches = torch.cat((latent[:, 1:], masked), dim=1)
        patches = patches.gather(1, places.unsqueeze(2).expand(-1, -1, latent.shape[2]))
        position = sinusoid_map(latent.shape[2], grid, device=latent.device).flatten(2).transpose(1, 2)
        tokens = torch.cat((latent[:, :1], patches + position), dim=1)
        for block in self.decoder_blocks:
            tokens = block(tokens)
        predicted: Tensor = self.decoder_pred(self.decoder_norm(tokens))
        return predicted[:, 1:]


@MODELS.register_module()
class AnySizeMAEHead(MAEPretrainHead):
    """:class:`mmpretrain.models.MAEPretrainHead` for any height and width.

    Images are padded with zeros at the bottom and the right to a multiple of the patch size, as the backbone
    does.

    Args:
        **kwargs: arguments of :class:`mmpretrain.models.MAEPretrainHead`.
    """

    def patchify(self, imgs: Tensor) -> Tensor:
        """Return the pixels of every patch ``(B, H * W, patch_size ** 2 * C)`` of ``(B, C, h, w)``."""
        side = self.patch_size
        height, width = imgs.shape[-2:]
        imgs = F.pad(imgs, (0, -width % side, 0, -height % side))
        patches = imgs.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, C, H, side, W, side)
        return patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def unpatchify(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        """Return images ``(B, C, h, w)`` of patches, the inverse of :meth:`patchify`.

        Args:
            x: ``(B, H * W, patch_size ** 2 * C)``.
            grid: ``(H, W)``; None for a square.
        """
        if grid is None:
            return super().unpatchify(x)
        side = self.patch_size
        patches = x.unflatten(2, (side, side, self.in_channels)).unflatten(1, grid)
        return patches.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
