"""Attention and feature similarity maps of an image, at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import fileio
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from torch import Tensor, nn

from resformer_mm.config.resolutions import check_resolutions, pipeline_at_resolution, test_dataset
from resformer_mm.config_types import type_name
from resformer_mm.models import ResFormer, VideoResFormer
from resformer_mm.models.layers import Attention, Grid, JointAttention, WindowAttention

from .position_maps import token_at

WEIGHTS_AT_ONCE = 256  # keys per pass, to limit the memory for large maps


@dataclass(frozen=True)
class BlockPass:
    """Inputs and outputs of one block in a forward pass.

    Attributes:
        attn: attention of the block.
        attn_input: tokens that the attention received, ``(B, N, C)``.
        features: tokens after the block, after the final norm if it is the last one, ``(B, N, C)``.
        grid: token grid (H, W).
        owners: row of the token grid for every row of patches, and columns; they differ if tokens are merged.
    """

    attn: Attention
    attn_input: Tensor
    features: Tensor
    grid: Grid
    owners: tuple[list[int], list[int]]

    def by_patch(self, values: Tensor) -> Tensor:
        """Return values of every token ``(H * W, ...)`` for every patch, ``(rows, columns, ...)``."""
        rows, columns = self.owners
        return values.unflatten(0, self.grid)[rows][:, columns]


@dataclass(frozen=True)
class ImageMaps:
    """Maps of one image at one resolution, a column of the figure.

    Attributes:
        resolution: resolution of the test pipeline in pixels.
        image: the image as the model sees it, RGB uint8 ``(h, w, 3)``.
        patch_size: side of a patch in pixels.
        point: (x, y) of the point in pixels of the image.
        attention: attention weights of the patches ``(H, W)``, times the number of tokens: 1 is uniform.
            Patches whose tokens are merged have the weight of the merged token.
        similarity: cosine similarity of the patch features ``(H, W)`` to those at the point.
        tokens: token grid of the block.
    """

    resolution: int
    image: np.ndarray
    patch_size: int
    point: tuple[float, float]
    attention: np.ndarray
    similarity: np.ndarray
    tokens: Grid


def attention_weights(
    attn: Attention, tokens: Tensor, grid: Grid, queries: Sequence[int] | None = None
) -> Tensor:
    """Return the attention weights of the tokens, which the fused kernel does not return.

    They are ``softmax(rotate(Q) rotate(K)^T / sqrt(d) + bias)``, and 0 for tokens outside the window of a
    :class:`WindowAttention`.

    Args:
        attn: the attention.
        tokens: its input, ``(B, N, C)``.
        grid: token grid (H, W); of a :class:`JointAttention` (T, H, W).
        queries: indices of the query tokens; by default all N.

    Returns:
        The weights ``(B, num_heads, Q, N)`` of all tokens for each of the Q queries; they add up to 1.

    Raises:
        ValueError: the attention is of an unsupported class.
    """
    if type(attn) not in (Attention, WindowAttention, JointAttention):
        raise ValueError(f'the weights of {type(attn).__name__} are not known here, only those of Attention')
    batch, length, _ = tokens.shape
    queries = list(range(length) if queries is None else queries)
    query, key, _ = (attn.split_heads(x) for x in attn.qkv(tokens).chunk(3, dim=2))
    # With unit vectors as values, the output of the model's own kernel is the weights.
    parts = []
    for indices in torch.arange(length, device=tokens.device).split(WEIGHTS_AT_ONCE):
        unit = nn.functional.one_hot(indices, length).t().to(query.dtype)
        out = attn.attend(query, key, unit.expand(batch, attn.num_heads, -1, -1), grid)
        parts.append(out[:, :, queries])
    return torch.cat(parts, dim=3)


def run_to_block(backbone: ResFormer, image: Tensor, block: int = -1) -> BlockPass:
    """Run a backbone on images and return what went through one block.

    Args:
        backbone: the backbone.
        image: ``(B, C_in, h, w)``, normalised.
        block: the block, counted from 0; negative ones from the last that runs.

    Raises:
        ValueError: there is no such block, or the image is smaller than a patch.
    """
    running = backbone.blocks[: backbone.out_indices[-1] + 1]
    if not -len(running) <= block < len(running):
        raise ValueError(f'there is no block {block}: blocks 0 to {len(running) - 1} run, -1 is the last')
    index = block % len(running)
    attn = running[index].attn
    assert isinstance(attn, Attention)
    caught: dict[str, Any] = {}
    hooks = (
        attn.register_forward_pre_hook(lambda _, args: caught.update(attn=args)),
        running[index].register_forward_hook(lambda _, args, output: caught.update(output=output)),
        backbone.patch_embed.register_forward_hook(lambda _, args, output: caught.update(patches=output[1])),
    )
    try:
        with torch.no_grad():
            backbone.forward_tokens(image)  # not forward: with `cls_only` the last block has no patch tokens
    finally:
        for hook in hooks:
            hook.remove()
    attn_input, grid = caught['attn']
    features = caught['output']
    if index == len(backbone.blocks) - 1 and backbone.norm is not None:
        with torch.no_grad():
            features = backbone.norm(features)
    return BlockPass(attn, attn_input, features, grid, backbone.token_owners(caught['patches'], index))


def read_image(model: BaseModel, path: str | Path, resolution: int) -> tuple[Tensor, np.ndarray]:
    """Read an image file with the test pipeline of a model's config, at a resolution.

    Args:
        model: model with its config as ``cfg``.
        path: the file.
        resolution: resolution in pixels.

    Returns:
        The normalised input ``(1, 3, h, w)``, which may be padded at the bottom and the right, and the image
        without normalisation and padding, RGB uint8 ``(h, w, 3)``.

    Raises:
        ValueError: the file is not a readable image, or the config has no test pipeline.
    """
    from resformer_mm.datasets.decoding import decode_image  # needs mmcv

    try:
        decode_image(fileio.get(str(path)))
    except Exception as error:  # each decoder has its own error types
        raise ValueError(f'cannot read the image {path} ({type(error).__name__}: {error})') from error
    pipeline = [
        step for step in test_dataset(model.cfg)['pipeline'] if 'Annotations' not in type_name(step['type'])
    ]
    sample = Compose(pipeline_at_resolution(pipeline, resolution))(dict(img_path=str(path), img_id=0))
    with torch.no_grad():
        inputs = model.data_preprocessor(pseudo_collate([sample]))['inputs']
    # Images are loaded as BGR, as in all the libraries; the data preprocessor swaps the channels.
    picture = sample['inputs'].flip(0).permute(1, 2, 0)
    return inputs, picture.to(torch.uint8).cpu().numpy()


def image_maps(
    model: BaseModel,
    path: str | Path,
    resolution: int,
    block: int = -1,
    head: int | None = None,
    point: tuple[float, float] = (0.5, 0.5),
) -> ImageMaps:
    """Return the attention and feature maps of one image at one resolution.

    The attention is that of the class token or, without a class token, of the token at the point.

    Args:
        model: model with a :class:`ResFormer` as ``backbone`` and its config as ``cfg``.
        path: image file.
        resolution: resolution in pixels.
        block: the block, counted from 0; negative ones from the last.
        head: attention head, counted from 0; None is the mean over all.
        point: (x, y) in the image, from (0, 0), top left, to (1, 1), bottom right.

    Raises:
        ValueError: the model has another backbone, the block, head or point do not exist, the image cannot be
            read, or the resolution is below one patch.
    """
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, ResFormer) or isinstance(backbone, VideoResFormer):
        raise ValueError(
            'attention maps need a model of images with a ResFormer as its backbone, not '
            f'{type(backbone).__name__}'
        )
    check_resolutions([resolution], 'resolutions')
    inputs, picture = read_image(model, path, resolution)
    passed = run_to_block(backbone, inputs, block)
    patch, (rows, columns) = backbone.patch_embed.size_for(*inputs.shape[2:]), passed.owners
    x, y = token_at(point, picture.shape[:2])
    token = rows[y // patch] * passed.grid[1] + columns[x // patch]
    first = backbone.num_prefix_tokens
    with torch.no_grad():
        query = 0 if backbone.with_cls_token else token
        weights = attention_weights(passed.attn, passed.attn_input, passed.grid, [query])[0, :, 0]
    num_heads, length = weights.shape
    if head is not None and not 0 <= head < num_heads:
        raise ValueError(f'there is no head {head}: the heads are 0 to {num_heads - 1}')
    weights = weights.mean(dim=0) if head is None else weights[head]
    features = passed.features[0, first:]
    similarity = torch.cosine_similarity(features, features[token].expand_as(features), dim=-1)
    return ImageMaps(
        resolution,
        picture,
        patch,
        (point[0] * picture.shape[1], point[1] * picture.shape[0]),
        passed.by_patch(weights[first:] * length).float().cpu().numpy(),
        passed.by_patch(similarity).float().cpu().numpy(),
        passed.grid,
    )
