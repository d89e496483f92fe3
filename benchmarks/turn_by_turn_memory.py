"""Peak memory and time of a training step: all resolutions at once, or each back-propagated in turn.

    python benchmarks/turn_by_turn_memory.py --out benchmarks/results/turn_by_turn_memory_cpu.csv

ResFormer-S through the package's own classifiers and AdamW, resolutions 224, 160, 128. Each mode runs in a
process of its own. Its peak is the highest resident memory of the process less what the process held when
everything was imported and no model built yet (on a GPU: the highest allocated memory): weights, gradients,
optimiser state, images and activations.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from machine import describe_device

MODES = {'joint': 'MultiResolutionClassifier', 'turn by turn': 'TurnByTurnClassifier'}
RESOLUTIONS = (224, 160, 128)


def run(mode: str, batch: int, device: str) -> dict[str, float]:
    """Return peak memory in MiB and seconds per step of one mode, in this process."""
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
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imported) / 2**10
    return {'peak_MiB': peak, 'seconds_per_step': time.perf_counter() - start}


def main() -> None:
    """Run every mode in a fresh process and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, help='CSV file')
    parser.add_argument('--batch', type=int, nargs='+', default=[32, 64], help='images per step')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--mode', choices=list(MODES), help='run only this mode, here, and print its result')
    args = parser.parse_args()
    if args.mode:
        print(json.dumps(run(args.mode, args.batch[0], args.device)))
        return
    if args.out is None:
        parser.error('--out is needed')
    rows = []
    for batch in args.batch:
        results = {}
        for mode in MODES:
            command = [sys.executable, __file__, '--mode', mode, '--batch', str(batch)]
            output = subprocess.run(
                [*command, '--device', args.device], check=True, stdout=subprocess.PIPE, text=True
            ).stdout
            results[mode] = json.loads(output.strip().splitlines()[-1])
        for mode, result in results.items():
            rows.append(
                {
                    'mode': mode,
                    'resolutions': ' '.join(map(str, RESOLUTIONS)),
                    'batch': batch,
                    'peak_MiB': f'{result["peak_MiB"]:.0f}',
                    'peak/joint': f'{result["peak_MiB"] / results["joint"]["peak_MiB"]:.3f}',
                    'seconds_per_step': f'{result["seconds_per_step"]:.1f}',
                    'device': describe_device(args.device),
                    'threads': torch.get_num_threads(),
                    'dtype': 'float32',
                    'torch': torch.__version__,
                }
            )
            print(rows[-1], flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with open(args.out, 'w', newline='') as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == '__main__':
    main()
