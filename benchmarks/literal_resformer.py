"""ResFormer as a literal transcription of the paper's equations, as the slow baseline.

Explicit softmax attention, a position map computed for every image of the batch, and a separate local
convolution for every head. Square inputs only. Module names follow the published checkpoints, so that the
converter of the package can exchange weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LiteralAttention(nn.Module):
    """Self-attention with explicit scores and a depthwise convolution of the values, per head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.get_v = nn.Conv2d(width // heads, width // heads, 3, padding=1, groups=width // heads)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, side: int) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.heads)
        out = scores.softmax(dim=-1) @ value
        image = value[:, :, 1:].transpose(-2, -1).reshape(batch * self.heads, -1, side, side)
        local = self.get_v(image).reshape(batch, self.heads, -1, side * side).transpose(-2, -1)
        out = out + torch.cat((torch.zeros_like(local[:, :, :1]), local), dim=2)
        return self.proj(out.transpose(1, 2).reshape(batch, length, width))


class LiteralBlock(nn.Module):
    """Pre-norm block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = LiteralAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Module()
        self.mlp.fc1 = nn.Linear(width, 4 * width)
        self.mlp.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, side: int) -> Tensor:
        x = x + self.attn(self.norm1(x), side)
        return x + self.mlp.fc2(nn.functional.gelu(self.mlp.fc1(self.norm2(x))))


class LiteralResFormer(nn.Module):
    """The whole network; ``forward`` returns the class token after the final norm, ``(B, C)``."""

    def __init__(self, width: int, depth: int, heads: int, patch: int = 16) -> None:
        super().__init__()
        self.width = width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, stride=patch)
        self.pos_embed = nn.Module()
        self.pos_embed.embed_layer = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.blocks = nn.ModuleList(LiteralBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def position_map(self, batch: int, side: int) -> Tensor:
        """Return the sine-cosine map of every image, ``(B, C, side, side)``."""
        half = self.width // 2
        ones = torch.ones(batch, side, side)
        y, x = ones.cumsum(1), ones.cumsum(2)
        y = y / (y[:, -1:, :] + 1e-6) * 2 * math.pi
        x = x / (x[:, :, -1:] + 1e-6) * 2 * math.pi
        frequency = torch.arange(half, dtype=torch.float32)
        frequency = 10000 ** (2 * (frequency // 2) / half)
        maps = []
        for position in (y, x):
            angle = position[..., None] / frequency
            maps.append(torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=4).flatten(3))
        return torch.cat(maps, dim=3).permute(0, 3, 1, 2)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed.proj(image)
        side = x.shape[-1]
        x = x + self.pos_embed.embed_layer(self.position_map(x.shape[0], side))
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)), dim=1)
        for block in self.blocks:
            x = block(x, side)
        return self.norm(x)[:, 0]
