"""What exact resume costs: time per training step and bytes of a checkpoint.

    python benchmarks/exact_resume_cost.py --out benchmarks/results/exact_resume_cost_cpu.csv

A small classifier trains on generated images through tools/train.py, with and without the hooks for exact
resume and preemption, alternating. The time of a step is the median over the steps of a run; a row has the
medians over the runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import torch
from fault_injection import Case, train, write_configs

from resformer_mm.analysis.machine import describe_device
from resformer_mm.files import write_csv
from resformer_mm.progress import track
from resformer_mm.synthetic import write_image_folder

SETTINGS = """
custom_hooks = []
model = dict(
    backbone=dict(arch=dict(embed_dims=192, num_heads=3, feedforward_channels=768)),
    head=dict(in_channels=192),
)
train_dataloader = dict(batch_size={batch}, num_workers={workers}, persistent_workers={persistent})
train_cfg = dict(max_epochs=2, val_interval=10)
default_hooks = dict(checkpoint=dict(_delete_=True, type='CheckpointHook', interval=2))
"""
WITHOUT = 'default_hooks.update(exact_resume=None, preemption=None)\n'
BATCH = 16


def run(case: Case, data: Path, folder: Path) -> tuple[float, int]:
    """Train; return the median seconds of a step without its data, and the bytes of the checkpoint.

    Raises:
        RuntimeError: the training failed.
    """
    config = write_configs(folder, case)
    result = train(config, case, data, 'none', '--work-dir', str(folder / 'run'))
    if result.returncode:
        raise RuntimeError(result.stderr[-4000:])
    log = next((folder / 'run').glob('*/vis_data/scalars.json')).read_text().splitlines()
    steps = [line['time'] for line in map(json.loads, log) if 'time' in line and 'loss' in line]
    return statistics.median(steps[5:]), (folder / 'run' / 'epoch_2.pth').stat().st_size


def main() -> None:
    """Measure, and write the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument('--runs', type=int, default=3, help='runs of each kind')
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        data = Path(name, 'data')
        write_image_folder(data, num_train=640, num_val=20, size=64)
        for processes, workers in ((1, 0), (1, 1), (2, 0)):
            settings = SETTINGS.format(batch=BATCH, workers=workers, persistent=workers > 0)
            cases = {'with': Case(settings, processes=processes)}
            cases['without'] = Case(settings + WITHOUT, processes=processes)
            measured: dict[str, list[tuple[float, int]]] = {kind: [] for kind in cases}
            for number in track(range(args.runs), f'{processes} processes, {workers} workers'):
                for kind, case in cases.items():
                    folder = Path(name, f'{processes}_{workers}_{kind}_{number}')
                    measured[kind].append(run(case, data, folder))
            seconds = {kind: statistics.median(one for one, _ in found) for kind, found in measured.items()}
            size = {kind: found[0][1] for kind, found in measured.items()}
            rows.append(
                {
                    'processes': processes,
                    'workers': workers,
                    'batch': BATCH,
                    'step_ms': round(1e3 * seconds['with'], 1),
                    'step_ms_without': round(1e3 * seconds['without'], 1),
                    'ratio': round(seconds['with'] / seconds['without'], 3),
                    'bytes': size['with'],
                    'bytes_without': size['without'],
                    'runs': args.runs,
                    'torch': torch.__version__,
                    'machine': describe_device('cpu'),
                }
            )
            print(rows[-1], flush=True)
    write_csv(args.out, rows)


if __name__ == '__main__':
    main()
