"""Operations, time and memory of ResFormer-B at large sizes: plain, with a token merger, and in windows.

    python benchmarks/every_size_cost.py --out benchmarks/results/every_size_cost_cpu.csv

One image, float32, random weights, the class token as the output. GFLOPs are giga multiply-adds. Memory is
what a prediction allocates at most, besides weights and image. Times are medians of rounds in which the
models alternate; run it on a quiet machine. What has more operations than `--max-gflops` is run once, to
count them, and not timed. On two cores, this takes about ten minutes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from alternating import alternate
from mmengine.device import get_device

from resformer_mm.analysis.complexity import count_complexity
from resformer_mm.analysis.machine import describe_device
from resformer_mm.analysis.memory import peak_memory
from resformer_mm.files import write_csv
from resformer_mm.models import ResFormer
from resformer_mm.progress import track

SIZES = (224, 448, 896, 1120, 2240)
MODELS: Mapping[str, dict[str, Any]] = {
    'plain': {},
    'merger to 14 x 14': dict(token_merger=dict(type='TokenMerger', grid=(14, 14))),
    'merger to 14 x 14 before block 3': dict(token_merger=dict(type='TokenMerger', grid=(14, 14), index=3)),
    # As in ViTDet: every third block attends to the whole map.
    'windows of 14 x 14 in 8 of 12 blocks': dict(
        window_size=14, window_block_indices=(0, 1, 3, 4, 6, 7, 9, 10)
    ),
}


def measure(models: Mapping[str, ResFormer], size: int, args: argparse.Namespace) -> list[dict[str, object]]:
    """Return a row for every model at a size."""
    device = get_device()
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    rows: dict[str, dict[str, object]] = {}
    calls = {}
    for name, model in models.items():
        flops = count_complexity(model, image).flops
        grid = model.grid_after((-(-size // model.patch_size),) * 2)
        rows[name] = dict(
            model=name, size=size, tokens=grid[0] * grid[1], gflops=f'{flops / 1e9:.4g}', ms='', mib='',
            dtype='float32', threads=torch.get_num_threads(), torch=torch.__version__,
            machine=describe_device(device),
        )  # fmt: skip
        if flops <= 1e9 * args.max_gflops:
            calls[name] = partial(predict, model, image)
            rows[name]['mib'] = f'{peak_memory(calls[name], device) / 2**20:.0f}'
    for name, times in alternate(calls, args.rounds, device=device).items() if calls else ():
        rows[name]['ms'] = f'{1e3 * statistics.median(times):.1f}'
    return list(rows.values())


def predict(model: ResFormer, image: torch.Tensor) -> None:
    """Run the model."""
    with torch.inference_mode():
        model(image)


def main() -> None:
    """Measure, and write the CSV after every size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument('--sizes', type=int, nargs='+', default=SIZES, help='sides of the image in pixels')
    parser.add_argument('--rounds', type=int, default=3, help='timed rounds (3)')
    parser.add_argument(
        '--max-gflops', type=float, default=1000, help='largest prediction that is timed (1000)'
    )
    args = parser.parse_args()
    torch.manual_seed(0)
    models = {
        name: ResFormer('base', **settings).eval().to(get_device()) for name, settings in MODELS.items()
    }
    rows: list[dict[str, object]] = []
    for size in track(args.sizes, 'sizes'):
        rows += measure(models, size, args)
        write_csv(args.out, rows)
        for row in rows[-len(models) :]:
            print(f'{row["size"]} {row["model"]}: {row["gflops"]} GFLOPs, {row["ms"] or "-"} ms')


if __name__ == '__main__':
    main()
