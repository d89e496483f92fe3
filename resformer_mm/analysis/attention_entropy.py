"""Entropy of the attention, relative to that of uniform attention, by block and head."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from resformer_mm.models import ResFormer

from .attention_maps import attention_weights, run_to_block

CLASS_TOKEN, PATCHES = 'class token', 'patches'
NUM_QUERIES = 32
"""Patches whose attention is measured, spread evenly over the token grid."""


@dataclass(frozen=True)
class HeadEntropy:
    """Entropy of the attention of one head.

    Attributes:
        block: index of the block.
        head: index of the head.
        query: whose attention it is, 'class token' or 'patches'.
        entropy: ``-sum_j a_j log a_j / log N`` over the N tokens, for each image ``(B,)``, and with 'patches'
            the mean over :data:`NUM_QUERIES` of them: 1 is uniform, 0 a single token.
    """

    block: int
    head: int
    query: str
    entropy: Tensor


@torch.no_grad()
def attention_entropies(backbone: ResFormer, image: Tensor) -> Iterator[HeadEntropy]:
    """Yield the entropy of every head of every block that runs.

    Args:
        backbone: the backbone, in evaluation mode.
        image: ``(B, C_in, h, w)``, normalised.

    Raises:
        ValueError: the image has one token, or an attention is of an unknown class.
    """
    first = backbone.num_prefix_tokens
    for block in range(backbone.out_indices[-1] + 1):
        passed = run_to_block(backbone, image, block)
        length = passed.attn_input.shape[1]
        if length < 2:
            raise ValueError('the entropy of attention needs at least two tokens: give a larger resolution')
        places = torch.linspace(first, length - 1, min(NUM_QUERIES, length - first)).round().int().tolist()
        queries = [0, *places] if backbone.with_cls_token else places
        weights = attention_weights(passed.attn, passed.attn_input, passed.grid, queries)
        entropy = relative_entropy(weights)  # (B, heads, queries)
        parts = {PATCHES: entropy[..., len(queries) - len(places) :].mean(-1)}
        if backbone.with_cls_token:
            parts = {CLASS_TOKEN: entropy[..., 0], **parts}
        for query, values in parts.items():
            for head in range(values.shape[1]):
                yield HeadEntropy(block, head, query, values[:, head].cpu())


def relative_entropy(weights: Tensor) -> Tensor:
    """Return the entropy of distributions over N tokens ``(..., N)`` divided by log N."""
    weights = weights.float().clamp(min=0)  # products of 16 bits may be slightly negative
    return -torch.special.xlogy(weights, weights).sum(-1) / math.log(weights.shape[-1])
