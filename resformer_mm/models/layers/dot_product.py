"""Scaled dot-product attention by the kernel that is fast for the processor and the data type."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from resformer_mm.compat.tracing import is_exporting
from resformer_mm.environment.machine import cpu_flags

MAX_SCORES = 2**24
"""Scores of a call that may be in memory at once, whatever the number of keys: 32 MiB in bfloat16."""
MAX_KEYS_PER_CHANNEL = 16
"""Keys per channel of a head up to which the scores of a layer are smaller than its other activations."""
CPU_FLAGS = cpu_flags()  # read here, since compiled code cannot read files


def dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Return ``softmax(scale * Q K^T + mask) V``, the values ``(B, num_heads, N, e)`` weighted per query.

    PyTorch's fused kernel keeps no scores in memory. In bfloat16, its version for x86 processors without AMX
    takes up to seven times as long as matrix products by oneDNN, with a softmax in between. These are used
    there, as long as the memory for the scores is small or in proportion to that of other activations.

    Args:
        query: ``(B, num_heads, N, d)``.
        key: ``(B, num_heads, M, d)``.
        value: ``(B, num_heads, M, e)``.
        mask: broadcastable to ``(B, num_heads, N, M)``: what is added to the scores, or False for keys that a
            query does not attend to.
        scale: factor of the scores; None: ``1 / sqrt(d)``.
    """
    if not _prefers_products(query, key):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    return attention_by_products(query, key, value, mask, scale)


def attention_by_products(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Return :func:`dot_product_attention` by matrix products, with all scores in memory."""
    scores = (query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(dim=-1) @ value


def _prefers_products(query: Tensor, key: Tensor) -> bool:
    if query.dtype != torch.bfloat16 or query.device.type != 'cpu' or not _multiplies_without_amx():
        return False
    if is_exporting() or torch.jit.is_tracing():  # programs and counts contain the operator itself
        return False
    keys, channels = key.shape[-2:]
    return keys <= MAX_KEYS_PER_CHANNEL * channels or math.prod(query.shape[:-1]) * keys <= MAX_SCORES


def _multiplies_without_amx() -> bool:
    return 'avx512_bf16' in CPU_FLAGS and 'amx_bf16' not in CPU_FLAGS
