"""What the recipes of an experiment cost per image, next to their accuracy and seconds.

    python benchmarks/experiments/price.py training_price
    python benchmarks/experiments/price.py training_price --table

The first command computes copies, tokens and GFLOPs of an image in an epoch from the declared schedules, and
writes them to ``EXPERIMENT_per_image.csv`` in ``--results``. Where losses steer a schedule, it reads the
frequencies from the last checkpoints in ``--work-dirs``. The second command prints what run.py has measured:
tokens, GFLOPs and seconds of the whole training, relative to ``--reference``, and the metric at the
resolutions of ``--baseline``, with the largest loss against it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from experiment import Experiment, Variant, VariantKey, experiment_names, find_experiment
from measured import measured_rows, on_the_same_images, read_rows, values_of_seeds
from mmengine.model import BaseModel
from running import ROOT

from resformer_mm.analysis.training_cost import TrainingCost, copies_per_image, training_cost
from resformer_mm.apis import load_model
from resformer_mm.checkpoints.reading import read_content
from resformer_mm.engine.steering import ENTRY
from resformer_mm.files import write_csv
from resformer_mm.progress import track
from resformer_mm.text import table

RESULTS = ROOT / 'benchmarks' / 'results'


def build(variant: Variant) -> BaseModel:
    """Return the model of a variant with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'variant.py')
        path.write_text(variant.config_text(ROOT), encoding='utf-8')
        return load_model(path, device='cpu')


def cost_of(variant: Variant, checkpoints: Sequence[Path]) -> TrainingCost | None:
    """Return the cost of an image in an epoch; None if losses steer it, and there are no checkpoints.

    Args:
        variant: the recipe.
        checkpoints: last checkpoints of its trainings.
    """
    model = build(variant)
    hooks = [str(hook.get('type')) for hook in model.cfg.get('custom_hooks') or []]
    if not any('LossGap' in hook or 'LossProgress' in hook for hook in hooks):
        return training_cost(model)
    runs = []
    for path in checkpoints:
        history = read_content(path)[ENTRY]['history']
        model.cfg.train_cfg.max_epochs = len(history)
        runs.append(copies_per_image(model.cfg, history))
    if not runs:
        return None
    copies = {size: float(np.mean([run.get(size, 0.0) for run in runs])) for size in runs[0]}
    return training_cost(model, copies)


def compute(experiment: Experiment, work_dirs: Path) -> list[dict[str, object]]:
    """Return a row for every variant."""
    rows: list[dict[str, object]] = []
    for name in track(experiment.tested, 'variants'):
        key = experiment.key(name)
        folder = work_dirs / key.experiment / key.variant
        pattern = f'seed_*/{key.schedule.checkpoint(key.schedule.length)}'
        cost = cost_of(key.declaration, sorted(folder.glob(pattern)))
        if cost is None:
            print(f'{name}: there are no checkpoints in {folder}, so its frequencies are not known')
            continue
        copies = ' '.join(f'{size}:{number:.3f}' for size, number in cost.copies.items())
        row = dict(variant=name, copies=copies, tokens=f'{cost.tokens:.2f}', gflops=f'{cost.flops / 1e9:.5g}')
        rows.append(row)
    return rows


def price_table(
    experiment: Experiment,
    costs: Mapping[str, Mapping[str, str]],
    rows: Sequence[Mapping[str, str]],
    results: Path,
    reference: str,
    baseline: str,
) -> str:
    """Return a Markdown table: a row for every variant that is measured, from the cheapest on.

    Args:
        experiment: the experiment.
        costs: variant -> costs of an image in an epoch.
        rows: those of the metric.
        results: folder of the CSV files of the seconds.
        reference: variant that costs are relative to.
        baseline: variant that accuracies are compared with.
    """
    values = values_of_seeds(on_the_same_images(rows), next(iter(experiment.metrics)))
    sizes = experiment.variants[baseline].trained_on
    lines = []
    for name in (name for name in experiment.tested if name in values):
        length = experiment.key(name).schedule.length
        found = [values[name].get(size, {}) for size in sizes]
        losses = [_paired(own, values.get(baseline, {}).get(size, {})) for own, size in zip(found, sizes)]
        known = [loss for loss in losses if loss is not None]
        worst = f'{min(known):+.1f}' if len(known) == len(sizes) else ''
        lines.append(
            [
                f'`{name}`',
                experiment.variants[name].title,
                str(length),
                str(max(map(len, found))),
                *_relative_costs(experiment, costs, name, reference),
                _relative_seconds(experiment.key(name), experiment.key(reference), results),
                *(f'{statistics.fmean(own.values()):.1f}' if own else '' for own in found),
                worst,
            ]
        )
    lines.sort(key=lambda line: float(line[4] or 'inf'))
    column = experiment.schedule.column
    header = ['variant', 'recipe', column, 'seeds', 'tokens', 'GFLOPs', 'seconds', *map(str, sizes), 'worst']
    return table(header, lines)


def _relative_costs(
    experiment: Experiment, costs: Mapping[str, Mapping[str, str]], name: str, reference: str
) -> list[str]:
    """Return tokens and GFLOPs of a training, relative to those of another one; '' if not known."""
    if name not in costs or reference not in costs:
        return ['', '']
    lengths = [experiment.key(one).schedule.length for one in (name, reference)]
    return [
        f'{float(costs[name][column]) * lengths[0] / (float(costs[reference][column]) * lengths[1]):.2f}'
        for column in ('tokens', 'gflops')
    ]


def _relative_seconds(key: VariantKey, reference: VariantKey, results: Path) -> str:
    """Return the seconds of a training, relative to those of another one; '' if not known."""
    own, other = _seconds(key, results), _seconds(reference, results)
    return '' if own is None or other is None else f'{own / other:.2f}'


def _seconds(key: VariantKey, results: Path) -> float | None:
    """Return the median seconds of a whole training; None if none is known."""
    rates = [
        float(row['seconds']) / float(row['amount'])
        for row in read_rows(results / key.owner.times_file)
        if row['variant'] == key.variant and row['part'] == 'training' and float(row['amount'])
    ]
    return key.schedule.length * statistics.median(rates) if rates else None


def _paired(values: Mapping[str, float], others: Mapping[str, float]) -> float | None:
    """Return the mean difference over the seeds that both have; None without any."""
    both = [values[seed] - others[seed] for seed in values if seed in others]
    return statistics.fmean(both) if both else None


def main() -> None:
    """Compute, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('experiment', choices=experiment_names())
    parser.add_argument('--table', action='store_true', help='print the table of what is measured, and end')
    parser.add_argument('--reference', default='single', help='variant that costs are relative to (single)')
    parser.add_argument('--baseline', default='mr', help='variant that accuracies are compared with (mr)')
    parser.add_argument('--work-dirs', type=Path, default=Path('work_dirs'), help='(work_dirs)')
    parser.add_argument(
        '--results', type=Path, default=RESULTS, help='folder of the CSV files (benchmarks/results)'
    )
    args = parser.parse_args()
    experiment = find_experiment(args.experiment)
    for name in (args.reference, args.baseline):
        if name not in experiment.variants:
            parser.error(f'{name} is not a variant of {experiment.name}: {", ".join(experiment.variants)}')
    path = args.results / f'{experiment.name}_per_image.csv'
    if not args.table:
        write_csv(path, compute(experiment, args.work_dirs))
        return
    costs = {row['variant']: row for row in read_rows(path)}
    rows = measured_rows(experiment, args.results)
    if not rows:
        parser.error(f'nothing of {experiment.name} is measured: run run.py {experiment.name} first')
    print(price_table(experiment, costs, rows, args.results, args.reference, args.baseline))


if __name__ == '__main__':
    main()
