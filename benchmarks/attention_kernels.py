"""Time of attention by PyTorch's fused kernel and by matrix products, in bfloat16 and float32.

    python benchmarks/attention_kernels.py --out benchmarks/results/attention_kernels_cpu.csv

Inputs are slices of one tensor of queries, keys and values, as in a block. "training" is forward and backward
pass. Every round runs all variants in rotating order; times are medians, and the ratio is the median over the
rounds of (fused / products), above 1 where the products are faster.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from pathlib import Path

import torch
import torch.nn.functional as F
from alternating import alternate, ratios
from torch import Tensor

from resformer_mm.analysis.machine import describe_device
from resformer_mm.files import write_csv
from resformer_mm.models.layers import dot_product
from resformer_mm.progress import track

# images, heads, tokens, channels of a head
SHAPES = (
    (64, 4, 17, 32),
    (64, 4, 65, 32),
    (8, 3, 197, 64),
    (8, 6, 197, 64),
    (2, 6, 577, 64),
    (1, 3, 1601, 64),
    (1, 6, 1601, 64),
)


def attend(attention, qkv: Tensor, heads: int) -> None:
    """Run attention as in a block; with gradients, run the backward pass, too."""
    images, tokens, width = qkv.shape
    query, key, value = (
        x.view(images, tokens, heads, width // (3 * heads)).transpose(1, 2) for x in qkv.chunk(3, dim=2)
    )
    out = attention(query, key, value).transpose(1, 2).reshape(images, tokens, width // 3)
    if out.requires_grad:
        out.sum().backward()
        qkv.grad = None


def measure(shape: tuple[int, int, int, int], dtype: torch.dtype, training: bool, rounds: int) -> dict:
    """Return a row of the file."""
    images, heads, tokens, channels = shape
    qkv = torch.randn(images, tokens, 3 * heads * channels).to(dtype).requires_grad_(training)
    chosen = dot_product._prefers_products(*[torch.empty(images, heads, tokens, channels, dtype=dtype)] * 2)
    kernels = {'fused': F.scaled_dot_product_attention, 'products': dot_product.attention_by_products}
    variants = {name: functools.partial(attend, kernel, qkv, heads) for name, kernel in kernels.items()}
    times = alternate(variants, rounds, warmup=3)
    ratio, low, high = ratios(times, 'fused', 'products')
    return {
        'images': images,
        'heads': heads,
        'tokens': tokens,
        'channels': channels,
        'dtype': str(dtype).removeprefix('torch.'),
        'what': 'training' if training else 'inference',
        'fused_ms': f'{1e3 * statistics.median(times["fused"]):.2f}',
        'products_ms': f'{1e3 * statistics.median(times["products"]):.2f}',
        'fused/products': f'{ratio:.2f}',
        'ratio_min': f'{low:.2f}',
        'ratio_max': f'{high:.2f}',
        'chosen': 'products' if chosen else 'fused',
        'rounds': rounds,
        'device': describe_device('cpu'),
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument('--rounds', type=int, default=25)
    args = parser.parse_args()
    torch.manual_seed(0)
    cases = [
        (shape, dtype, training)
        for dtype in (torch.bfloat16, torch.float32)
        for training in (False, True)
        for shape in SHAPES
    ]
    rows = [measure(*case, args.rounds) for case in track(cases, 'attention')]
    write_csv(args.out, rows)
    for row in rows:
        print(', '.join(str(value) for value in row.values()))


if __name__ == '__main__':
    main()
