"""Operations, memory and time of one prediction by the variants of an experiment, with random weights.

    python benchmarks/experiments/costs.py every_size --variants plain rope --resolutions 64 128 320
    python benchmarks/experiments/costs.py every_size --table gflops

GFLOPs are giga multiply-adds. Memory is what a prediction allocates at most, besides weights and image. Times
are medians of rounds in which the variants alternate; run it on a quiet machine. Rows of the same variant,
resolution, type and number of threads are replaced.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from experiment import Experiment, Variant, experiment_names, find_experiment
from measured import COSTS_OF, cost_table, read_rows
from mmengine.device import get_device
from mmengine.model import BaseModel
from running import ROOT

from resformer_mm.analysis.machine import describe_device
from resformer_mm.analysis.memory import peak_memory
from resformer_mm.analysis.resolution_complexity import blank_batch, complexity_at
from resformer_mm.apis import load_model
from resformer_mm.config.inference_dtype import DTYPES
from resformer_mm.engine.inference_dtype import set_inference_dtype
from resformer_mm.files import write_csv
from resformer_mm.progress import track

sys.path.append(str(ROOT / 'benchmarks'))
from alternating import alternate


def build(variant: Variant, device: str) -> BaseModel:
    """Return the model of a variant with random weights, in evaluation mode."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'variant.py')
        path.write_text(variant.config_text(ROOT), encoding='utf-8')
        return load_model(path, device=device).eval()


def measure(
    experiment: Experiment, names: Sequence[str], resolution: int, dtype: str, rounds: int
) -> list[dict[str, object]]:
    """Return a row for every variant at a resolution."""
    device = get_device()
    rows, calls = [], {}
    for name in names:
        model = build(experiment.variants[name], device)
        operations = complexity_at(model, (resolution, resolution))
        used = set_inference_dtype(model, dtype, '--dtype')
        batch = blank_batch(model, (resolution, resolution))
        call = partial(predict, model, batch)
        calls[name] = call
        rows.append(
            dict(
                variant=name,
                resolution=resolution,
                parameters=operations.parameters,
                gflops=f'{operations.flops / 1e9:.4g}',
                mib=f'{peak_memory(call, device) / 2**20:.1f}',
                ms='',
                dtype=used,
                threads=torch.get_num_threads(),
                torch=torch.__version__,
                machine=describe_device(device),
            )
        )
    times = alternate(calls, rounds, device=device) if rounds else {}
    for row, name in zip(rows if times else (), names):
        row['ms'] = f'{1e3 * statistics.median(times[name]):.2f}'
    return rows


def predict(model: BaseModel, batch: dict) -> None:
    """Predict without what follows the heads."""
    with torch.inference_mode():
        model(**batch, mode='tensor')


def main() -> None:
    """Measure, and write the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('experiment', choices=experiment_names())
    parser.add_argument('--variants', nargs='+', metavar='NAME', help='(all)')
    parser.add_argument('--resolutions', nargs='+', type=int, help='in pixels (those of the experiment)')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='type of the prediction (float32)')
    parser.add_argument('--rounds', type=int, default=7, help='timed rounds; 0 measures no times (7)')
    parser.add_argument(
        '--table', choices=['gflops', 'mib', 'ms'], help='print a table of what is measured, and end'
    )
    parser.add_argument('--threads', type=int, help='(those of PyTorch)')
    parser.add_argument('--out', type=Path, help='CSV file (benchmarks/results/EXPERIMENT_costs_DEVICE.csv)')
    args = parser.parse_args()
    experiment = find_experiment(args.experiment)
    names = args.variants or experiment.tested
    if unknown := [name for name in names if name not in experiment.variants]:
        parser.error(f'{unknown[0]} is not a variant of {experiment.name}: {", ".join(experiment.variants)}')
    device = get_device().split(':')[0]
    default = ROOT / 'benchmarks' / 'results' / f'{experiment.name}_costs_{device}.csv'
    path = args.out or default
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.table:
        settings = dict(dtype=args.dtype, threads=str(torch.get_num_threads()))
        rows = [row for row in read_rows(path) if settings.items() <= row.items()]
        print(cost_table(experiment, rows, names, args.table))
        return
    for resolution in track(args.resolutions or list(experiment.resolutions), 'resolutions'):
        rows = {_identity(row): row for row in read_rows(path)}
        rows.update(
            (_identity(row), row) for row in measure(experiment, names, resolution, args.dtype, args.rounds)
        )
        write_csv(path, list(rows.values()))


def _identity(row: dict) -> tuple[str, ...]:
    return tuple(str(row[column]) for column in COSTS_OF)


if __name__ == '__main__':
    main()
