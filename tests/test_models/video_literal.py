"""A slow, literal VideoResFormer on top of :mod:`literal`: loops over clips, frames, positions; float64."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from literal import attention as attention_of_image
from literal import depthwise, gelu, layer_norm, patches, sinusoid, under
from torch import Tensor


def over_time(table: Tensor, num_frames: int) -> Tensor:
    """Rows of a table ``(S, C)`` at the middle of each of T equal shares of time, linear in between."""
    rows = []
    for t in range(num_frames):
        place = min(max((t + 0.5) * len(table) / num_frames - 0.5, 0.0), len(table) - 1)
        before = int(place)
        after = min(before + 1, len(table) - 1)
        rows.append(table[before] * (1 - (place - before)) + table[after] * (place - before))
    return torch.stack(rows)


def joint(params: Mapping[str, Tensor], tokens: Tensor, grid: tuple[int, int, int], num_heads: int) -> Tensor:
    """Attention among the class token and the patches of all frames, ``(1 + T * N, C)``, LPE per frame."""
    num_frames, height, width = grid
    plain = {name: value for name, value in params.items() if 'local_position' not in name}
    attended = attention_of_image(plain, tokens, (len(tokens), 1), num_heads, has_cls=False)
    channels = tokens.shape[1]
    values = (tokens @ params['qkv.weight'].T + params['qkv.bias'])[1:, 2 * channels :]
    terms = []
    for frame in values.reshape(num_frames, height, width, channels):
        weight, bias = params['local_position.conv.weight'], params['local_position.conv.bias']
        heads = [depthwise(head, weight, bias) for head in frame.split(channels // num_heads, dim=2)]
        terms.append(torch.cat(heads, dim=2).reshape(height * width, channels))
    term = torch.cat((torch.zeros(1, channels, dtype=values.dtype), *terms))
    return attended + term @ params['proj.weight'].T  # its bias is in the first summand


def linear(params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ params[f'{name}.weight'].T + params[f'{name}.bias']


def norm(params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return layer_norm(x, params[f'{name}.weight'], params[f'{name}.bias'])


def mlp(block: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return x + linear(block, 'mlp.fc2', gelu(linear(block, 'mlp.fc1', norm(block, 'norm2', x))))


def divided_block(
    block: Mapping[str, Tensor], cls_token: Tensor | None, frames: list[Tensor], grid, num_heads: int
) -> tuple[Tensor | None, list[Tensor]]:
    """A class token ``(1, C)`` and T frames ``(N, C)`` after one block."""
    moved = [[] for _ in frames]
    for p in range(len(frames[0])):
        path = torch.stack([frame[p] for frame in frames])
        normed, line = norm(block, 'temporal_norm', path), (len(frames), 1)
        attended = attention_of_image(under(block, 'temporal_attn.'), normed, line, num_heads, has_cls=False)
        path = path + linear(block, 'temporal_fc', attended)
        for t, token in enumerate(path):
            moved[t].append(token)
    frames = [torch.stack(frame) for frame in moved]
    cls_terms, out = [], []
    for frame in frames:
        tokens = frame if cls_token is None else torch.cat((cls_token, frame))
        has_cls = cls_token is not None
        normed = norm(block, 'norm1', tokens)
        term = attention_of_image(under(block, 'attn.'), normed, grid[1:], num_heads, has_cls)
        if has_cls:
            cls_terms.append(term[:1])
            term = term[1:]
        out.append(mlp(block, frame + term))
    if cls_token is not None:
        cls_token = mlp(block, cls_token + sum(cls_terms) / len(frames))
    return cls_token, out


def forward(params: Mapping[str, Tensor], clips: Tensor, num_heads: int, attention_type: str) -> Tensor:
    """Normalised tokens ``(B, [1 +] T * N, C)`` of clips ``(B, C_in, T, h, w)``."""
    num_blocks = len({name.split('.')[1] for name in params if name.startswith('blocks.')})
    outputs = []
    for clip in clips:
        frames = []
        for t in range(clip.shape[1]):
            weight, bias = params['patch_embed.proj.weight'], params['patch_embed.proj.bias']
            tokens, grid = patches(clip[:, t], weight, bias)
            table = depthwise(
                sinusoid(tokens.shape[1], grid),
                params['global_position.conv.weight'],
                params['global_position.conv.bias'],
            )
            frames.append(tokens + table.reshape(tokens.shape))
        grid = (len(frames), *grid)
        if 'temporal_position.table' in params:
            times = over_time(params['temporal_position.table'][0], len(frames))
            frames = [frame + time for frame, time in zip(frames, times)]
        cls_token = params['cls_token'][0] if 'cls_token' in params else None
        cls_tokens = [cls_token] * len(frames)
        for index in range(num_blocks):
            block = under(params, f'blocks.{index}.')
            if attention_type == 'divided_space_time':
                cls_token, frames = divided_block(block, cls_token, frames, grid, num_heads)
            elif attention_type == 'joint_space_time':
                tokens = torch.cat((cls_token, *frames))
                normed = norm(block, 'norm1', tokens)
                tokens = mlp(block, tokens + joint(under(block, 'attn.'), normed, grid, num_heads))
                cls_token, frames = tokens[:1], list(tokens[1:].split(grid[1] * grid[2]))
            else:
                for t, frame in enumerate(frames):
                    tokens = torch.cat((cls_tokens[t], frame))
                    normed = norm(block, 'norm1', tokens)
                    term = attention_of_image(under(block, 'attn.'), normed, grid[1:], num_heads, True)
                    tokens = mlp(block, tokens + term)
                    cls_tokens[t], frames[t] = tokens[:1], tokens[1:]
        if attention_type == 'space_only':
            cls_token = sum(cls_tokens) / len(cls_tokens)
        tokens = torch.cat(frames if cls_token is None else (cls_token, *frames))
        outputs.append(norm(params, 'norm', tokens))
    return torch.stack(outputs)
