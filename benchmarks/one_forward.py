"""Time of a multi-resolution step with one forward pass for all resolutions, and with one for each.

    python benchmarks/one_forward.py --out benchmarks/results/one_forward_cpu.csv

A step is forward, loss (cross-entropy and scale consistency) and backward at three resolutions, with
stochastic depth 0.1. Every round runs both in alternating order, so that a temporary slowdown of the machine
affects both. The ratio is the median over the rounds of (one forward / three forwards), below 1 where one is
faster. On a GPU: --device cuda --dtype bfloat16, and --compile.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from resformer_mm.analysis.machine import describe_device
from resformer_mm.files import write_csv
from resformer_mm.models import ResFormer, SmoothL1Consistency

CASES = (
    ('tiny', (128, 96, 80), 1),
    ('tiny', (128, 96, 80), 16),
    ('tiny', (224, 160, 128), 1),
    ('tiny', (224, 160, 128), 8),
    ('small', (128, 96, 80), 1),
    ('small', (128, 96, 80), 16),
    ('small', (224, 160, 128), 1),
    ('small', (224, 160, 128), 8),
)


def make_step(model: ResFormer, images: list[Tensor], is_joint: bool, dtype: torch.dtype):
    """Return a function that runs a step."""
    consistency = SmoothL1Consistency()
    labels = torch.arange(images[0].shape[0], device=images[0].device) % model.embed_dims

    def step() -> None:
        with torch.autocast(images[0].device.type, dtype, enabled=dtype != torch.float32):
            outputs = (
                model.forward_copies(images, 'cls')
                if is_joint
                else [model.forward_pooled(image, 'cls') for image in images]
            )
        tokens = [token.float() for _, token in outputs]
        losses = [nn.functional.cross_entropy(token, labels) for token in tokens]
        losses += [consistency(small, large.detach()) for large, small in zip(tokens, tokens[1:])]
        sum(losses).backward()
        model.zero_grad(set_to_none=True)

    return step


def measure(
    arch: str, resolutions: tuple[int, ...], batch: int, args: argparse.Namespace
) -> dict[str, object]:
    """Return the row of a case."""
    torch.manual_seed(0)
    model = ResFormer(arch, drop_path_rate=0.1).to(args.device).train()
    if args.compile:
        model.compile()
    images = [torch.randn(batch, 3, side, side, device=args.device) for side in resolutions]
    dtype = getattr(torch, args.dtype)
    steps = {name: make_step(model, images, name == 'one', dtype) for name in ('three', 'one')}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(args.rounds + args.warmup):
        for name in list(steps)[:: 1 if turn % 2 else -1]:
            if args.device != 'cpu':
                torch.cuda.synchronize()
            start = time.perf_counter()
            steps[name]()
            if args.device != 'cpu':
                torch.cuda.synchronize()
            if turn >= args.warmup:
                times[name].append(time.perf_counter() - start)
    ratios = [one / three for one, three in zip(times['one'], times['three'])]
    return {
        'model': f'ResFormer, {arch}',
        'resolutions': ' '.join(map(str, resolutions)),
        'batch': batch,
        'three_ms': round(1000 * statistics.median(times['three']), 1),
        'one_ms': round(1000 * statistics.median(times['one']), 1),
        'ratio': round(statistics.median(ratios), 3),
        'ratio_min': round(min(ratios), 3),
        'ratio_max': round(max(ratios), 3),
        'rounds': args.rounds,
        'device': describe_device(args.device),
        'threads': torch.get_num_threads(),
        'dtype': args.dtype,
        'compiled': args.compile,
        'torch': torch.__version__,
    }


def main() -> None:
    """Measure all cases and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16'], default='float32')
    parser.add_argument('--compile', action='store_true', help='torch.compile the model')
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--warmup', type=int, default=2)
    args = parser.parse_args()
    rows = []
    for case in CASES:
        rows.append(measure(*case, args))
        print({name: rows[-1][name] for name in list(rows[-1])[:8]}, flush=True)
        write_csv(args.out, rows)


if __name__ == '__main__':
    main()
