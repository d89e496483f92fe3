"""Peak memory and time of a training step: all resolutions at once, or each back-propagated in turn.

    python benchmarks/turn_by_turn_memory.py --out benchmarks/results/turn_by_turn_memory_cpu.csv

ResFormer-S through the package's own classifiers and AdamW, resolutions 224, 160, 128: weights, gradients,
optimiser state, images and activations. Each mode runs in a process of its own, once to measure the most
memory that PyTorch's allocator had given out (on the CPU under its profiler), and once for the time and for
the highest resident memory of the process, less what it held when everything was imported.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch
from machine import describe_device

from resformer_mm.analysis.memory import peak_memory

MODES = {'joint': 'MultiResolutionClassifier', 'turn by turn': 'TurnByTurnClassifier'}
RESOLUTIONS = (224, 160, 128)


def run(mode: str, batch: int, device: str) -> dict[str, float]:
    """Return resident peak in MiB and seconds per step of one mode, in this process."""
    from mmengine.optim import OptimWrapper
    from mmpretrain.structures import DataSample

    from resformer_mm.registry import MODELS

    torch.manual_seed(0)
    MODELS.get('MultiResolutionClassifier')  # imports the libraries
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = MODELS.build(
        dict(
            type=f'resformer_mm.{MODES[mode]}',
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
        model.train_step({'inputs': images, 'data_samples': samples}, wrapper)

    step()
    start = time.perf_counter()
    step()
    if device == 'cuda':
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    resident = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imported) / 2**10
    return {'resident_MiB': resident, 'seconds_per_step': seconds}


def run_measured(mode: str, batch: int, device: str) -> dict[str, float]:
    """Return the most memory that the device's allocator had given out at any time, in MiB."""
    return {'allocated_MiB': peak_memory(partial(run, mode, batch, device), device) / 2**20}


def measure(mode: str, batch: int, device: str) -> dict[str, float]:
    """Run a mode in fresh processes and return all its figures."""

    def run_apart(*options: str) -> dict[str, float]:
        command = [sys.executable, __file__, '--mode', mode, '--batch', str(batch), '--device', device]
        output = subprocess.run([*command, *options], check=True, stdout=subprocess.PIPE, text=True).stdout
        return json.loads(output.strip().splitlines()[-1])

    return {**run_apart('--allocated'), **run_apart()}


def main() -> None:
    """Run every mode in a fresh process and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, help='CSV file')
    parser.add_argument('--batch', type=int, nargs='+', default=[32, 64], help='images per step')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--mode', choices=list(MODES), help='run only this mode, here, and print its result')
    parser.add_argument('--allocated', action='store_true', help='with --mode: measure what is allocated')
    args = parser.parse_args()
    if args.mode:
        batch = args.batch[0]
        measured = run_measured if args.allocated else run
        print(json.dumps(measured(args.mode, batch, args.device)))
        return
    if args.out is None:
        parser.error('--out is needed')
    rows = []
    for batch in args.batch:
        results = {mode: measure(mode, batch, args.device) for mode in MODES}
        for mode, result in results.items():
            row = {'mode': mode, 'resolutions': ' '.join(map(str, RESOLUTIONS)), 'batch': batch}
            for name in ('allocated', 'resident'):
                key = f'{name}_MiB'
                row[key] = f'{result[key]:.0f}'
                row[f'{name}/joint'] = f'{result[key] / results["joint"][key]:.3f}'
            row.update(
                seconds_per_step=f'{result["seconds_per_step"]:.1f}',
                device=describe_device(args.device),
                threads=torch.get_num_threads(),
                dtype='float32',
                torch=torch.__version__,
            )
            rows.append(row)
            print(row, flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with open(args.out, 'w', newline='') as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == '__main__':
    main()
