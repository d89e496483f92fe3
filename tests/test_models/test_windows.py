"""Windows of maps that the window divides and of others: copies, padding and masks, and the result."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from resformer_mm.models.layers import WindowAttention

DIM, HEADS, SIZE = 24, 3, 4


def make() -> WindowAttention:
    torch.manual_seed(0)
    attn = WindowAttention(
        DIM,
        HEADS,
        with_cls_token=False,
        local_position=dict(type='LocalPositionEmbedding'),
        window_size=SIZE,
    )
    for parameter in attn.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return attn.double()


def window_by_window(attn: WindowAttention, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Softmax attention of one window after the other, and the convolution over the whole map."""
    batch = tokens.shape[0]
    query, key, value = (x.unflatten(1, grid) for x in attn.qkv(tokens).chunk(3, dim=2))
    rows = []
    for top in range(0, grid[0], SIZE):
        row = []
        for left in range(0, grid[1], SIZE):
            place = (slice(None), slice(top, top + SIZE), slice(left, left + SIZE))
            q, k, v = (x[place].flatten(1, 2).unflatten(2, (HEADS, -1)) for x in (query, key, value))
            scores = torch.einsum('bqhd,bkhd->bhqk', q, k) / (DIM // HEADS) ** 0.5
            out = torch.einsum('bhqk,bkhd->bqhd', scores.softmax(dim=-1), v)
            row.append(out.reshape(value[place].shape))
        rows.append(torch.cat(row, dim=2))
    conv = attn.local_position.conv
    term = F.conv2d(
        value.permute(0, 3, 1, 2),
        conv.weight.repeat(HEADS, 1, 1, 1),
        conv.bias.repeat(HEADS),
        padding=1,
        groups=DIM,
    )
    mixed = torch.cat(rows, dim=1) + term.permute(0, 2, 3, 1)
    return attn.proj(mixed.reshape(batch, -1, DIM))


# Divided, cut off below, at the right, on both sides, by one token, smaller than a window, a single row.
@pytest.mark.parametrize('grid', [(8, 4), (10, 8), (4, 7), (7, 10), (5, 9), (3, 2), (1, 6), (4, 3)])
def test_output_and_gradients_are_those_of_each_window(grid: tuple[int, int]) -> None:
    attn = make()
    tokens = torch.randn(2, grid[0] * grid[1], DIM, dtype=torch.float64)
    results = []
    for function in (attn, lambda *args: window_by_window(attn, *args)):
        attn.zero_grad(set_to_none=True)
        own = tokens.clone().requires_grad_()
        out = function(own, grid)
        out.sin().sum().backward()
        results.append((out, own.grad, *(parameter.grad for parameter in attn.parameters())))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ('grid', 'shapes'),
    [
        ((8, 12), {(12, 16)}),
        ((8, 6), {(4, 16), (4, 8)}),
        ((7, 6), {(2, 16), (2, 8), (2, 12), (2, 6)}),
        ((3, 2), {(2, 6)}),
    ],
)
def test_nothing_is_padded_and_nothing_is_masked(
    grid: tuple[int, int], shapes: set[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    attend, seen = F.scaled_dot_product_attention, set()

    def watched(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, scale: float | None = None
    ) -> Tensor:
        assert attn_mask is None and scale is None
        seen.add((query.shape[0], query.shape[2]))
        return attend(query, key, value)

    def refuse(*args, **kwargs) -> Tensor:
        raise AssertionError('padded')

    monkeypatch.setattr(F, 'scaled_dot_product_attention', watched)
    monkeypatch.setattr(F, 'pad', refuse)
    make()(torch.randn(2, grid[0] * grid[1], DIM, dtype=torch.float64), grid)
    assert seen == shapes  # windows of both images, and tokens of each


def test_bfloat16_is_close() -> None:
    attn = make().float()
    tokens = torch.randn(2, 70, DIM)
    with torch.autocast('cpu', torch.bfloat16):
        actual = attn(tokens, (7, 10))
    assert F.cosine_similarity(actual.float(), attn(tokens, (7, 10)), dim=-1).min() > 0.99
