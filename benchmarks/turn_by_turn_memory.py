"""Peak memory and time of a training step: all resolutions at once, or each back-propagated in turn.

    python benchmarks/turn_by_turn_memory.py --out benchmarks/results/turn_by_turn_memory_cpu.csv

ResFormer-S as a classifier of this package, with AdamW, resolutions 224, 160, 128: weights, gradients,
optimiser state, images and activations. Each mode runs in two separate processes: one measures the peak of
PyTorch's allocator (on the CPU with its profiler), the other the time and the peak resident memory of the
process, minus that after the imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from functools import partial
from pathlib import Path

import torch
from separate_runs import run_in_subprocess, write_rows

from resformer_mm.analysis.memory import peak_memory
from resformer_mm.progress import track

MODES = ('joint', 'turn by turn')
RESOLUTIONS = (224, 160, 128)


def run(mode: str, batch: int, device: str) -> dict[str, float]:
    """Return the resident peak in MiB and the seconds per step of a mode, measured in this process."""
    from mmengine.optim import OptimWrapper
    from mmpretrain.structures import DataSample

    from resformer_mm.engine import train_by_turns
    from resformer_mm.registry import MODELS

    torch.manual_seed(0)
    MODELS.get('MultiResolutionClassifier')  # imports the libraries
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = MODELS.build(
        dict(
            type='resformer_mm.MultiResolutionClassifier',
            _scope_='mmpretrain',
            backbone=dict(type='resformer_mm.ResFormer', arch='small'),
            head=dict(type='LinearClsHead', num_classes=1000, in_channels=384),
            data_preprocessor=dict(
                type='resformer_mm.MultiResolutionDataPreprocessor',
                num_classes=1000,
                mean=[127.5] * 3,
                std=[127.5] * 3,
            ),
        )
    ).to(device)
    model.train()
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-4))

    def step() -> None:
        images = [torch.randint(0, 256, (batch, 3, r, r), dtype=torch.uint8) for r in RESOLUTIONS]
        samples = [DataSample().set_gt_label(i % 1000) for i in range(batch)]
        data = {'inputs': images, 'data_samples': samples}
        train_by_turns(model, data, wrapper) if mode == 'turn by turn' else model.train_step(data, wrapper)

    step()
    start = time.perf_counter()
    step()
    if device == 'cuda':
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    resident = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imported) / 2**10
    return {'resident_MiB': resident, 'seconds_per_step': seconds}


def run_measured(mode: str, batch: int, device: str) -> dict[str, float]:
    """Return the peak of the allocator of the device in MiB."""
    return {'allocated_MiB': peak_memory(partial(run, mode, batch, device), device) / 2**20}


def measure(mode: str, batch: int, device: str) -> dict[str, float]:
    """Run a mode in new processes and return all its figures."""
    options = ('--mode', mode, '--batch', batch, '--device', device)
    return {**run_in_subprocess(__file__, *options, '--allocated'), **run_in_subprocess(__file__, *options)}


def main() -> None:
    """Run every mode in new processes and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, help='CSV file')
    parser.add_argument('--batch', type=int, nargs='+', default=[32, 64], help='images per step')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--mode', choices=MODES, help='run this mode alone in this process; print the result')
    parser.add_argument('--allocated', action='store_true', help='with --mode: measure the allocated memory')
    args = parser.parse_args()
    if args.mode:
        batch = args.batch[0]
        measured = run_measured if args.allocated else run
        print(json.dumps(measured(args.mode, batch, args.device)))
        return
    if args.out is None:
        parser.error('--out is required')
    rows = []
    for batch in args.batch:
        results = {mode: measure(mode, batch, args.device) for mode in track(MODES, f'batch of {batch}')}
        for mode, result in results.items():
            row = {'mode': mode, 'resolutions': ' '.join(map(str, RESOLUTIONS)), 'batch': batch}
            for name in ('allocated', 'resident'):
                key = f'{name}_MiB'
                row[key] = f'{result[key]:.0f}'
                row[f'{name}/joint'] = f'{result[key] / results["joint"][key]:.3f}'
            row['seconds_per_step'] = f'{result["seconds_per_step"]:.1f}'
            rows.append(row)
            print(row, flush=True)
    write_rows(args.out, rows, args.device)


if __name__ == '__main__':
    main()
