"""The model that the shapes of a checkpoint imply."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from resformer_mm.models.backbones import ResFormer

from .reading import CheckpointError

HEAD_DIM = 64  # of every DeiT and ViT; assumed if the shapes do not imply the width of a head


@dataclass(frozen=True)
class Architecture:
    """A ResFormer classifier, as implied by the shapes of its parameters.

    Attributes:
        global_position: config of the backbone's global position embedding.
        local_position: config of its local position embedding, or None.
        num_classes: width of the classification head, 0 without one.
        num_registers: number of registers beside the class token.
        patch_embed: config of the patch embedding; None for a plain one.
    """

    embed_dims: int
    num_layers: int
    num_heads: int
    feedforward_channels: int
    patch_size: int
    in_channels: int
    with_cls_token: bool
    global_position: dict
    local_position: dict | None
    num_classes: int
    num_registers: int = 0
    patch_embed: dict | None = None

    @property
    def arch(self) -> str | dict[str, int]:
        """The value of the backbone's ``arch``: a name, or the four numbers if they have none."""
        names = ('embed_dims', 'num_layers', 'num_heads', 'feedforward_channels')
        arch = {name: getattr(self, name) for name in names}
        return next((name for name, known in ResFormer.arch_zoo.items() if known == arch), arch)

    def backbone_config(self) -> dict:
        """Return the config of the backbone that the checkpoint fits."""
        config: dict = dict(type='resformer_mm.ResFormer', arch=self.arch, patch_size=self.patch_size)
        if self.in_channels != 3:
            config['in_channels'] = self.in_channels
        if not self.with_cls_token:
            config.update(with_cls_token=False, out_type='avg_featmap')
        if self.num_registers:
            config['num_registers'] = self.num_registers
        if self.global_position != dict(type='GlobalPositionEmbedding'):
            config['global_position'] = self.global_position
        if self.local_position != dict(type='LocalPositionEmbedding'):
            config['local_position'] = self.local_position
        if self.patch_embed is not None:
            config['patch_embed'] = self.patch_embed
        return config

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter of the classifier by name, without allocating memory."""
        config = self.backbone_config()
        config.pop('type')
        with torch.device('meta'):
            state = ResFormer(**config).state_dict()
        shapes = {f'backbone.{name}': tuple(value.shape) for name, value in state.items()}
        if self.num_classes:
            shapes['head.fc.weight'] = (self.num_classes, self.embed_dims)
            shapes['head.fc.bias'] = (self.num_classes,)
        return shapes


def infer_architecture(
    state: Mapping[str, Tensor],
    source: str,
    num_heads: int | None = None,
    layout: str = 'resformer_mm',
) -> Architecture:
    """Infer the model from tensors under this project's names.

    The number of heads follows from the filters of the LPE; without LPE it is ``num_heads``, or one
    head per 64 channels. A published ResFormer has a class token, GPE and LPE, so what the file lacks of
    them is reported as missing. A ViT starts a ResFormer with GPE and LPE, unless its position table is kept.

    Args:
        state: name -> tensor.
        source: the file, for messages.
        num_heads: number of attention heads, for checkpoints whose shapes do not imply it.
        layout: layout of the names in the file.

    Raises:
        CheckpointError: no ResFormer has these tensors.
    """
    patches = _shape(state, 'backbone.patch_embed.proj.weight', 4, source)
    width = patches[0]
    if patches[2] != patches[3]:
        raise CheckpointError(
            f'{source}: patches of {patches[2]} x {patches[3]} are not square: use another file'
        )
    blocks = {int(found[1]) for found in map(re.compile(r'backbone\.blocks\.(\d+)\.').match, state) if found}
    first_absent = next(index for index in range(len(blocks) + 1) if index not in blocks)
    if not blocks or first_absent < len(blocks):
        raise CheckpointError(
            f'{source} lacks block {first_absent}: the file is incomplete or not a ViT; use another file'
        )
    hidden = _shape(state, 'backbone.blocks.0.mlp.fc1.weight', 2, source)[0]
    heads = _infer_heads(state, width, source, num_heads)
    is_converted = layout != 'resformer_mm'
    global_position = _infer_global_position(state, is_converted, source)
    has_lpe = any('.attn.local_position.conv.' in name for name in state)
    if is_converted and global_position['type'] == 'GlobalPositionEmbedding':
        has_lpe = True
    head = state.get('head.fc.weight', state.get('head.fc.bias'))
    has_registers = 'backbone.registers' in state
    kernels = further_kernels(state)
    return Architecture(
        embed_dims=width,
        num_layers=len(blocks),
        num_heads=heads,
        feedforward_channels=hidden,
        patch_size=patches[2],
        in_channels=patches[1],
        with_cls_token=layout == 'resformer' or 'backbone.cls_token' in state,
        global_position=global_position,
        local_position=dict(type='LocalPositionEmbedding') if has_lpe else None,
        num_classes=0 if head is None or head.ndim == 0 else head.shape[0],
        num_registers=_shape(state, 'backbone.registers', 3, source)[1] if has_registers else 0,
        patch_embed=dict(type='MultiKernelPatchEmbed', kernel_sizes=kernels) if kernels else None,
    )


def _shape(state: Mapping[str, Tensor], name: str, ndim: int, source: str) -> tuple[int, ...]:
    if name not in state:
        raise CheckpointError(
            f'{source} lacks {name.removeprefix("backbone.")}: it is not a ResFormer, DeiT or ViT; use '
            'another file'
        )
    shape = tuple(state[name].shape)
    if len(shape) != ndim:
        raise CheckpointError(
            f'{source}: {name} has shape {shape}, but should have {ndim} dimensions: use another file'
        )
    return shape


def _infer_heads(state: Mapping[str, Tensor], width: int, source: str, num_heads: int | None) -> int:
    filters = [value for name, value in state.items() if '.attn.local_position.conv.' in name]
    head_dim = HEAD_DIM
    if filters and filters[0].ndim:
        head_dim = filters[0].shape[0]
    elif num_heads is not None:
        if num_heads < 1 or width % num_heads:
            raise CheckpointError(f'{source}: {num_heads} heads do not divide the width {width}')
        head_dim = width // num_heads
    if not head_dim or width % head_dim:
        raise CheckpointError(
            f'{source}: the width {width} is not a multiple of the head width {head_dim}'
            + (
                ''
                if filters
                else '; give the number of heads with --num-heads, or arch=dict(...) to from_pretrained'
            )
        )
    if num_heads not in (None, width // head_dim):
        raise CheckpointError(
            f'{source} has {width // head_dim} heads, not {num_heads}: leave the number of heads out'
        )
    return width // head_dim


def further_kernels(names: Iterable[str]) -> list[int]:
    """Return the sides of the further patch kernels among the names of a classifier's weights."""
    kernels = map(re.compile(r'backbone\.patch_embed\.kernels\.(\d+)\.weight').fullmatch, names)
    return [int(found[1]) for found in kernels if found]


def _infer_global_position(state: Mapping[str, Tensor], is_converted: bool, source: str) -> dict:
    table = state.get('backbone.global_position.table')
    if table is not None:
        side = math.isqrt(table.shape[1]) if table.ndim == 3 else 0
        if not side or side * side != table.shape[1]:
            raise CheckpointError(
                f'{source}: a position table of shape {tuple(table.shape)} is not a square grid: use another '
                'file'
            )
        config = dict(type='LearnedPositionEmbedding', grid_size=side)
        if 'backbone.global_position.cls_token_table' not in state:
            config['with_cls_token'] = False
        return config
    if is_converted or any(name.startswith('backbone.global_position.conv.') for name in state):
        return dict(type='GlobalPositionEmbedding')
    return dict(type='NoGlobalPosition')
