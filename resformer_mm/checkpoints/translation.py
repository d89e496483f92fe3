"""Translation of ViTs of other libraries to the names and parts of timm's plain ViT."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .layouts import Layout
from .reading import CheckpointError
from .report import OWN_START

OTHER_PART = 'left out, it belongs to another part than the ViT'
DIFFERS = 'the features differ from those of its model until it is trained'
ROTARY = r'rope_embed\.periods'
_VIT = re.compile(
    r'(cls_token|dist_token|reg_token|pos_embed)$|(patch_embed|rope_embed|norm|fc_norm)\.|blocks\.\d+\.'
    r'|head(_dist)?\.(weight|bias)$'
)
_PRETRAINING = re.compile(r'decoder_|(mask_token|masked_embed)$|(head|pooler|pre_logits)\.')


@dataclass
class Translation:
    """Tensors under timm's names.

    Attributes:
        state: name of timm -> tensor.
        origins: name of timm -> name in the file, or what the tensor is made of.
        dropped: name in the file -> why it is left out.
        absent: name of timm -> why the model keeps its initialisation of it.
        notes: what was changed.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def drop(self, name: str, reason: str) -> None:
        """Leave out a tensor."""
        del self.state[name]
        self.dropped[self.origins.pop(name)] = reason


def translate(
    state: Mapping[str, Tensor], layout: Layout, source: str, keep_registers: bool = False
) -> Translation:
    """Translate a ViT to the names of timm, without changing what it computes.

    Separate projections of queries, keys and values are joined, and layer scale becomes part of the
    projections before it. Biases that no block has are zeros. Left out are decoders, projection heads and
    other parts of a pre-training, and heads that do not read the class token after the final norm. Rotary
    positions are left out, too, and so are register tokens by default; only these change what the ViT
    computes.

    Args:
        state: name -> tensor.
        layout: result of :func:`~resformer_mm.checkpoints.layouts.find_layout`.
        source: the file, for messages.
        keep_registers: whether the model has registers, too; they get its name, ``registers``.

    Raises:
        CheckpointError: a ResFormer cannot hold the ViT, or a part of it is missing.
    """
    result = Translation()
    if layout.prefix:
        result.notes.append(f'the ViT is at {layout.prefix!r}')
    for origin, value in state.items():
        name = layout.timm_name(origin)
        is_vit = bool(_VIT.match(name))
        if not is_vit and (not origin.startswith(layout.prefix) or _PRETRAINING.match(name)):
            result.dropped[origin] = OTHER_PART
        elif name in result.state:
            raise CheckpointError(
                f'{source}: both {result.origins[name]} and {origin} are {name} of a ViT: save one alone'
            )
        else:
            result.state[name], result.origins[name] = value, origin
    _refuse_distilled(result, source)
    _settle_registers(result, keep_registers)
    _drop_rotation(result)
    _mask_biases(result, source)
    _join_projections(result, source)
    _fold_layer_scale(result, source)
    _fill_biases(result)
    _drop_foreign_heads(result)
    return result


def _refuse_distilled(result: Translation, source: str) -> None:
    names = [result.origins[name] for name in result.state if re.match(r'dist_token$|head_dist\.', name)]
    if names:
        raise CheckpointError(
            f'{source} is a distilled DeiT ({", ".join(names)}), and a ResFormer has no second token: use '
            'the DeiT checkpoint of the same size without distillation'
        )


def _settle_registers(result: Translation, keep: bool) -> None:
    registers = result.state.get('reg_token')
    if registers is None:
        return
    if keep:
        result.state['registers'] = result.state.pop('reg_token')
        result.origins['registers'] = result.origins.pop('reg_token')
    else:
        number = registers.shape[1] if registers.ndim == 3 else registers.shape[0]
        result.drop(
            'reg_token',
            f'{number} register tokens, which this ResFormer does not have (num_registers): {DIFFERS}',
        )


def _drop_rotation(result: Translation) -> None:
    for name in [name for name in result.state if re.fullmatch(ROTARY, name)]:
        result.drop(name, f'rotary positions, which this ResFormer does not have: {DIFFERS}')
    if 'pos_embed' not in result.state:
        # Rotary positions are not always part of a file.
        result.absent['global_position.'] = f'{OWN_START}, the file has no position table: {DIFFERS}'


def _mask_biases(result: Translation, source: str) -> None:
    """Apply the masks of DINOv3, which take the bias of the keys away, and join biases of separate parts."""
    for name in [name for name in result.state if name.endswith('.attn.qkv.bias_mask')]:
        bias = name.removesuffix('_mask')
        if bias not in result.state or result.state[bias].shape != result.state[name].shape:
            raise CheckpointError(
                f'{source} has {result.origins[name]} without its bias: use a complete file'
            )
        result.state[bias] = result.state[bias] * result.state.pop(name)
        result.origins[bias] += f' * {result.origins.pop(name)}'
    for name in [name for name in result.state if re.fullmatch(r'blocks\.\d+\.attn\.q_bias', name)]:
        value = name.replace('q_bias', 'v_bias')
        if value not in result.state:
            raise CheckpointError(
                f'{source} has {result.origins[name]} without that of the values: use a complete file'
            )
        query, values = result.state.pop(name), result.state.pop(value)
        joined = name.replace('q_bias', 'qkv.bias')
        result.state[joined] = torch.cat((query, torch.zeros_like(query), values))
        result.origins[joined] = f'{result.origins.pop(name)} + 0 + {result.origins.pop(value)}'


def _join_projections(result: Translation, source: str) -> None:
    for name in [name for name in result.state if '.attn.q.' in name]:
        names = [name.replace('.attn.q.', f'.attn.{part}.') for part in 'qkv']
        if name.endswith('.bias') and names[1] not in result.state and names[2] in result.state:
            # A bias of the keys shifts all scores of a query alike, so softmax removes it.
            result.state[names[1]] = torch.zeros_like(result.state[name])
            result.origins[names[1]] = '0'
        if any(part not in result.state for part in names):
            raise CheckpointError(
                f'{source} has {result.origins[name]} without its keys and values: use a complete file'
            )
        joined = name.replace('.attn.q.', '.attn.qkv.')
        result.state[joined] = torch.cat([result.state.pop(part) for part in names])
        result.origins[joined] = ' + '.join(result.origins.pop(part) for part in names)


def _fold_layer_scale(result: Translation, source: str) -> None:
    """Multiply the projections by the factors that follow them: ``g * (W x + b) = (g W) x + g b``."""
    scales = [name for name in result.state if re.fullmatch(r'blocks\.\d+\.ls[12]\.gamma', name)]
    for name in scales:
        block, _, kind = name.removesuffix('.gamma').rpartition('.')
        projection = f'{block}.{"attn.proj" if kind == "ls1" else "mlp.fc2"}'
        factors, origin = result.state.pop(name), result.origins.pop(name)
        for part in ('weight', 'bias'):
            target = f'{projection}.{part}'
            if target not in result.state:
                raise CheckpointError(
                    f'{source} has {origin}, but not the {part} of the projection before it: use a complete '
                    'file'
                )
            value = result.state[target]
            if factors.shape != value.shape[:1]:
                raise CheckpointError(
                    f'{source}: {origin} {tuple(factors.shape)} does not fit {result.origins[target]} '
                    f'{tuple(value.shape)}'
                )
            wide = factors.double().reshape(-1, *[1] * (value.ndim - 1))
            # Factors of 1e-5 would leave the range of 16 bits.
            result.state[target] = (wide * value).to(torch.promote_types(value.dtype, torch.float32))
            result.origins[target] += f' * {origin}'
    if scales:
        result.notes.append('layer scale is multiplied into the projections before it: the same outputs')


def _fill_biases(result: Translation) -> None:
    """Add zeros for the biases that a kind of layer lacks everywhere."""
    for pattern in (r'patch_embed\.proj\.weight', r'blocks\.\d+\.attn\.qkv\.weight'):
        weights = [name for name in result.state if re.fullmatch(pattern, name)]
        biases = {name: name.removesuffix('weight') + 'bias' for name in weights}
        if weights and not any(bias in result.state for bias in biases.values()):
            for weight, bias in biases.items():
                result.state[bias] = result.state[weight].new_zeros(result.state[weight].shape[:1])
                result.origins[bias] = f'zeros, as {result.origins[weight]} has no bias'
            layer = 'patch embedding' if pattern.startswith('patch') else 'queries, keys and values'
            result.notes.append(f'no bias of the {layer} in this file: set to zero')


def _drop_foreign_heads(result: Translation) -> None:
    """Leave out heads that read something else than a ResFormer's class token, and say what is absent."""
    mean_norm = [name for name in result.state if name.startswith('fc_norm.')]
    head = result.state.get('head.weight')
    width = result.state['norm.weight'].shape[0] if 'norm.weight' in result.state else None
    reason = None
    if mean_norm:
        reason = 'left out, it reads the normalised mean of the patches'
    elif any('pre_logits' in origin for origin in result.dropped):
        reason = 'left out, it reads a layer after the ViT (pre_logits)'
    elif head is not None and head.ndim == 2 and width is not None and head.shape[1] != width:
        reason = f'left out, it reads {head.shape[1]} values instead of the {width} of the class token'
    for name in mean_norm:
        result.drop(name, 'left out, it normalises the mean of the patches, not the tokens')
    for name in [name for name in result.state if name.startswith('head.') and reason]:
        result.drop(name, str(reason))
    if reason:
        result.absent['head.'] = f'{OWN_START}, the head of the file reads other features'
    if not any(name.startswith('norm.') for name in result.state):
        result.absent['norm.'] = f'{OWN_START}, the file has no norm of the last tokens'
    if 'cls_token' not in result.state:
        result.absent['cls_token'] = f'{OWN_START}, the file has no class token'
