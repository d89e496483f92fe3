"""Time of a training step of the ten-class configs where bfloat16 is native, and where it is emulated.

    python benchmarks/emulated_bfloat16.py --out benchmarks/results/emulated_bfloat16_cpu.csv

`ONEDNN_MAX_CPU_ISA` lets an x86 processor with AVX512-BF16 compute as one with AVX-512 alone, or with AVX2.
"chosen" is the type that `AutocastOptimWrapper` takes, by the times of two matrix products. A step is
forward, cross-entropy, scale consistency and backward of 64 images at 64, 48 and 32 pixels. Every setting is
measured in its own process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import torch
from separate_runs import run_in_subprocess
from torch import nn

from resformer_mm.analysis.machine import describe_device
from resformer_mm.engine import AutocastOptimWrapper
from resformer_mm.environment.half_precision import product_ratio
from resformer_mm.files import write_csv
from resformer_mm.models import ResFormer, SmoothL1Consistency

VARIABLE = 'ONEDNN_MAX_CPU_ISA'
SETTINGS = ('DEFAULT', 'AVX512_CORE', 'AVX2')
ARCH = dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512)
RESOLUTIONS, BATCH = (64, 48, 32), 64


def measure(rounds: int) -> dict[str, float | str]:
    """Return the times of steps in this process."""
    torch.manual_seed(0)
    model = ResFormer(ARCH, patch_size=8, drop_path_rate=0.05).train()
    head, consistency = nn.Linear(model.embed_dims, 10), SmoothL1Consistency()
    images = [torch.randn(BATCH, 3, side, side) for side in RESOLUTIONS]
    labels = torch.arange(BATCH) % 10
    wrapper = AutocastOptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    kinds = {
        'float32': lambda: torch.autocast('cpu', enabled=False),
        'bfloat16': lambda: torch.autocast('cpu', torch.bfloat16),
        'chosen': lambda: wrapper.optim_context(model),
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    chosen = 'unknown'
    for number in range(rounds + 1):
        for kind, context in kinds.items():
            start = time.perf_counter()
            with context():
                tokens = [token.float() for _, token in model.forward_copies(images, 'cls')]
                scores = [head(token) for token in tokens]
            if kind == 'chosen':
                chosen = str(scores[0].dtype).removeprefix('torch.')
            losses = [nn.functional.cross_entropy(one.float(), labels) for one in scores]
            losses += [consistency(small, large.detach()) for large, small in zip(tokens, tokens[1:])]
            sum(losses).backward()
            model.zero_grad(set_to_none=True)
            if number:
                times[kind].append(time.perf_counter() - start)
    ratio = product_ratio('bfloat16')
    return {
        'product_ratio': f'{ratio:.2f}',
        **{f'{kind}_s': f'{statistics.median(seconds):.2f}' for kind, seconds in times.items()},
        'chosen': chosen,
    }


def main() -> None:
    """Measure every setting in a process, and write the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, help='CSV file; without it, one setting is measured and printed')
    parser.add_argument('--rounds', type=int, default=3)
    args = parser.parse_args()
    if args.out is None:
        print(json.dumps(measure(args.rounds)))
        return
    rows = []
    for setting in SETTINGS:
        os.environ[VARIABLE] = setting
        found = run_in_subprocess(__file__, '--rounds', args.rounds)
        common = dict(rounds=args.rounds, device=describe_device('cpu'), threads=torch.get_num_threads())
        rows.append({'instructions': setting, **found, **common, 'torch': torch.__version__})
        print(rows[-1], flush=True)
        write_csv(args.out, rows)


if __name__ == '__main__':
    main()
