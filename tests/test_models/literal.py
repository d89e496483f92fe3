"""A slow, literal ResFormer: every formula as it stands, in float64, without regard for speed.

It shares no code with the package and takes the parameters of a backbone by name. Loops go over
rows, columns, heads and tokens; convolutions are sums over neighbours; windows are pairs of tokens
that may see each other. Everything is differentiable, so that gradients can be compared as well.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

Grid = tuple[int, int]


def sinusoid(channels: int, grid: Grid, temperature: float = 10000.0) -> Tensor:
    """Sine-cosine map of a grid, ``(H, W, C)``: rows in the first half of C, then columns."""
    height, width = grid
    half = channels // 2
    table = torch.zeros(height, width, channels, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            for i in range(half):
                frequency = temperature ** (2 * (i // 2) / half)
                wave = math.sin if i % 2 == 0 else math.cos
                row = (y + 1) / (height + 1e-6) * 2 * math.pi
                column = (x + 1) / (width + 1e-6) * 2 * math.pi
                table[y, x, i] = wave(row / frequency)
                table[y, x, half + i] = wave(column / frequency)
    return table


def depthwise(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """3x3 depthwise convolution with zeros outside, ``(H, W, C) -> (H, W, C)``."""
    height, width, _ = image.shape
    rows = []
    for y in range(height):
        row = []
        for x in range(width):
            total = bias
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        total = total + weight[:, 0, dy + 1, dx + 1] * image[y + dy, x + dx]
            row.append(total)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Layer norm over the last axis, eps 1e-6."""
    mean = x.sum(-1, keepdim=True) / x.shape[-1]
    variance = ((x - mean) ** 2).sum(-1, keepdim=True) / x.shape[-1]
    return (x - mean) / (variance + 1e-6).sqrt() * weight + bias


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution function."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def patches(image: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Grid]:
    """Tokens ``(H * W, C)`` of one image ``(C_in, h, w)``, with zeros up to whole patches."""
    patch = weight.shape[-1]
    grid = (math.ceil(image.shape[1] / patch), math.ceil(image.shape[2] / patch))
    padded = image.new_zeros(image.shape[0], grid[0] * patch, grid[1] * patch)
    padded[:, : image.shape[1], : image.shape[2]] = image
    tokens = []
    for y in range(grid[0]):
        for x in range(grid[1]):
            cut = padded[:, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
            tokens.append((weight * cut).sum(dim=(1, 2, 3)) + bias)
    return torch.stack(tokens), grid


def attend(query: Tensor, key: Tensor, value: Tensor, visible: list[list[int]]) -> Tensor:
    """One head: each token ``i`` looks at the tokens ``visible[i]``; ``(N, d)`` tensors."""
    rows = []
    for i, others in enumerate(visible):
        scores = torch.stack([(query[i] * key[j]).sum() for j in others]) / math.sqrt(key.shape[1])
        weights = torch.exp(scores - scores.detach().max())
        weights = weights / weights.sum()
        rows.append(sum(weight * value[j] for weight, j in zip(weights, others)))
    return torch.stack(rows)


def attention(
    params: Mapping[str, Tensor],
    tokens: Tensor,
    grid: Grid,
    num_heads: int,
    has_cls: bool,
    window: int = 0,
) -> Tensor:
    """Attention of one image ``(N, C)``, with LPE if it has parameters; window 0: the whole map."""
    height, width = grid
    channels = tokens.shape[1]
    if window:
        cell = [(y // window, x // window) for y in range(height) for x in range(width)]
        visible = [[j for j in range(len(cell)) if cell[j] == cell[i]] for i in range(len(cell))]
    else:
        visible = [list(range(len(tokens)))] * len(tokens)
    qkv = tokens @ params['qkv.weight'].T + params['qkv.bias']
    dim = channels // num_heads
    heads = []
    for head in range(num_heads):
        query, key, value = (
            qkv[:, part * channels + head * dim : part * channels + (head + 1) * dim] for part in range(3)
        )
        out = attend(query, key, value, visible)
        if 'local_position.conv.weight' in params:
            patch_values = value[1:] if has_cls else value
            term = depthwise(
                patch_values.reshape(height, width, dim),
                params['local_position.conv.weight'],
                params['local_position.conv.bias'],
            ).reshape(height * width, dim)
            if has_cls:
                term = torch.cat((torch.zeros(1, dim, dtype=term.dtype), term))
            out = out + term
        heads.append(out)
    return torch.cat(heads, dim=1) @ params['proj.weight'].T + params['proj.bias']


def under(params: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Parameters below a prefix, by the rest of their names."""
    return {name[len(prefix) :]: v for name, v in params.items() if name.startswith(prefix)}


def forward(
    params: Mapping[str, Tensor],
    images: Tensor,
    num_heads: int,
    window: int = 0,
    windowed: Collection[int] = (),
    gpe: bool = True,
) -> list[Tensor]:
    """Tokens ``(B, N, C)`` after every block, the last after the final norm if there is one.

    Args:
        params: float64 parameters of a ResFormer, by name.
        images: float64, ``(B, C_in, h, w)``.
        num_heads: attention heads.
        window: side of a window.
        windowed: blocks with windows.
        gpe: whether the sine-cosine map is added; with a convolution if there are parameters for it.
    """
    has_cls = 'cls_token' in params
    num_blocks = len({name.split('.')[1] for name in params if name.startswith('blocks.')})
    outputs: list[list[Tensor]] = [[] for _ in range(num_blocks)]
    for image in images:
        tokens, grid = patches(image, params['patch_embed.proj.weight'], params['patch_embed.proj.bias'])
        if gpe:
            table = sinusoid(tokens.shape[1], grid)
            if 'global_position.conv.weight' in params:
                table = depthwise(
                    table,
                    params['global_position.conv.weight'],
                    params['global_position.conv.bias'],
                )
            tokens = tokens + table.reshape(tokens.shape)
        if has_cls:
            tokens = torch.cat((params['cls_token'][0], tokens))
        for index in range(num_blocks):
            block = under(params, f'blocks.{index}.')
            normed = layer_norm(tokens, block['norm1.weight'], block['norm1.bias'])
            size = window if index in windowed else 0
            tokens = tokens + attention(under(block, 'attn.'), normed, grid, num_heads, has_cls, size)
            normed = layer_norm(tokens, block['norm2.weight'], block['norm2.bias'])
            hidden = gelu(normed @ block['mlp.fc1.weight'].T + block['mlp.fc1.bias'])
            tokens = tokens + hidden @ block['mlp.fc2.weight'].T + block['mlp.fc2.bias']
            if index == num_blocks - 1 and 'norm.weight' in params:
                tokens = layer_norm(tokens, params['norm.weight'], params['norm.bias'])
            outputs[index].append(tokens)
    return [torch.stack(batch) for batch in outputs]
