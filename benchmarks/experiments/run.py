"""Train and test the variants of an experiment with several seeds, or print what was measured.

    python benchmarks/experiments/run.py every_size --train-data DATA --test-data TEST --variants plain fuzzy
    python benchmarks/experiments/run.py every_size --table

An experiment is a file of this folder. DATA has ``train/CLASS`` and ``val/CLASS``, TEST has ``CLASS``, with
the same classes; generated data is written where it is missing, by default into the folders that the
experiment names. Every variant is trained by tools/train.py and tested by tools/test.py. Metrics and seconds
are appended to the CSV files in ``--results`` as soon as they are known. What an earlier call has finished is
not repeated, and an interrupted training continues from its last checkpoint: after an interruption, give the
same command again. A variant that several experiments share is trained and tested once. Several calls at once
share the work, by variants or seeds; merge.py joins the results of several machines.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from experiment import UNITS, Experiment, experiment_names, find_experiment
from image_data import DataError
from measured import caption, mean_curves, measured_rows, metric_table, on_the_same_images
from mmengine.device import get_device
from running import ROOT, Budget, Commands, Runs, run_all

from resformer_mm.analysis.resolution_curves import plot_curves
from resformer_mm.engine.precision import half_pays

RESULTS = ROOT / 'benchmarks' / 'results'


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('experiment', choices=experiment_names())
    parser.add_argument('--variants', nargs='+', metavar='NAME', help='(all)')
    parser.add_argument('--list', action='store_true', help='print the variants, and end')
    parser.add_argument('--table', action='store_true', help='print the table of what is measured, and end')
    parser.add_argument(
        '--against', metavar='NAME', help='with --table: differences from this variant, seed by seed'
    )
    parser.add_argument('--metric', metavar='NAME', help='with --table or --plot: one of several metrics')
    parser.add_argument('--plot', type=Path, help='draw the curves of what is measured to a file, and end')
    parser.add_argument('--train-data', type=Path, help='folder of the training images (see above)')
    parser.add_argument('--test-data', type=Path, help='folder of the test images (see above)')
    parser.add_argument('--seeds', nargs='+', type=int, help='(those of the experiment)')
    for name in UNITS:
        parser.add_argument(
            f'--{name}', type=int, help='length of a training that is counted so (that of the experiment)'
        )
    parser.add_argument('--resolutions', nargs='+', type=int, help='of the test (those of the experiment)')
    parser.add_argument(
        '--all-images', action='store_true', help='test on all images at all resolutions, which takes longer'
    )
    parser.add_argument('--jobs', type=int, default=1, help='runs side by side (1)')
    parser.add_argument('--threads', type=int, default=1, help='threads of a run (1)')
    parser.add_argument('--workers', type=int, default=1, help='loader workers of a run (1)')
    parser.add_argument(
        '--hours',
        type=float,
        default=float('inf'),
        help='time for all runs: none is started that would not end within it, by the times of earlier ones',
    )
    parser.add_argument(
        '--results', type=Path, default=RESULTS, help='folder of the CSV files (benchmarks/results)'
    )
    parser.add_argument(
        '--work-dirs',
        type=Path,
        default=Path('work_dirs'),
        help='folder of checkpoints, with a folder for each experiment (work_dirs)',
    )
    args = parser.parse_args(arguments)
    args.experiment = experiment = find_experiment(args.experiment)
    args.variants = args.variants or experiment.tested
    for name in (*args.variants, args.against):
        if name is not None and name not in experiment.variants:
            parser.error(f'{name} is not a variant of {experiment.name}: {", ".join(experiment.variants)}')
    args.seeds = experiment.seeds if args.seeds is None else args.seeds
    column = experiment.schedule.column
    for name in UNITS:
        if name != column and getattr(args, name) is not None:
            parser.error(f'--{name}: trainings of {experiment.name} are counted in {column}, use --{column}')
    args.length = experiment.schedule.length if getattr(args, column) is None else getattr(args, column)
    args.metric = args.metric or next(iter(experiment.metrics))
    if args.metric not in experiment.metrics:
        parser.error(f'{args.metric} is not a metric of {experiment.name}: {", ".join(experiment.metrics)}')
    args.resolutions = args.resolutions or list(experiment.resolutions)
    for name, value in ((column, args.length), ('jobs', args.jobs), ('threads', args.threads)):
        if value < 1:
            parser.error(f'--{name} must be at least 1')
    return args


def report(args: argparse.Namespace) -> None:
    """Print the table, and draw the plot."""
    experiment: Experiment = args.experiment
    rows = measured_rows(experiment, args.results, args.length)
    if not rows:
        column = experiment.schedule.column
        sys.exit(f'{args.results} has no rows of {experiment.name} after {args.length} {column}')
    rows = on_the_same_images(rows)
    if args.table:
        print(f'{caption(rows)}\n')
        print(metric_table(experiment, rows, args.variants, args.metric, args.against))
    if args.plot:
        curves = mean_curves(experiment, rows, args.variants, args.metric)
        plot_curves(curves, args.plot, f'{args.metric} (%)')


def fast_dtype() -> str:
    """Return the type that the trainings of classifiers choose on this machine."""
    return 'bfloat16' if half_pays('bfloat16', get_device(), 'experiments') else 'float32'


def main() -> None:
    """Train and test, or report."""
    args = parse_args()
    experiment: Experiment = args.experiment
    if args.list:
        for name, variant in experiment.variants.items():
            print(f'{name}: {variant.title}' + (f' ({variant.same_as})' if variant.same_as else ''))
        return
    if args.table or args.plot:
        report(args)
        return
    try:
        data = experiment.data.find(args.train_data, args.test_data)
    except DataError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    threads = str(args.threads)
    commands = Commands(
        {
            'OMP_NUM_THREADS': threads,
            'MKL_NUM_THREADS': threads,
            'OMP_WAIT_POLICY': 'PASSIVE',
        }
    )
    runs = Runs(
        experiment=experiment,
        data=data,
        work_dirs=args.work_dirs.absolute(),
        results=args.results,
        resolutions=args.resolutions,
        all_images=args.all_images,
        length=args.length,
        workers=args.workers,
        dtype=experiment.dtype or fast_dtype(),
        commands=commands,
        budget=Budget(args.hours),
    )
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, lambda *_: commands.stop())
    problems = run_all(runs, args.variants, args.seeds, args.jobs)
    sys.exit(1 if problems else 0)


if __name__ == '__main__':
    main()
