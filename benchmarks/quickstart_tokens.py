"""Accuracy of the quickstart's models with a fixed number of tokens at every resolution.

    python benchmarks/quickstart_tokens.py work_dirs/quickstart --models resformer_mr --tokens 64 100

The models are those that ``bash tools/quickstart.sh`` has left in the folder. Patches of 8 pixels are what it
tests. With ``--tokens``, kernels are resized at test time (``tools/test.py --tokens``), also those of a DeiT.
Writes benchmarks/results/quickstart_tokens_top1.csv, and prints the table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from resformer_mm.analysis import ResolutionCurve, format_table, read_curve
from resformer_mm.files import write_csv
from resformer_mm.finetuning.comparison import ComparedModel, choose_test_resolutions, compared_models
from resformer_mm.progress import track

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs' / 'classification'
RESULTS = ROOT / 'benchmarks' / 'results' / 'quickstart_tokens_top1.csv'
METRIC = 'accuracy/top1'
PATCHES_OF_8 = 'patches of 8 pixels'


def test(model: ComparedModel, work_dir: Path, tokens: int | None) -> ResolutionCurve:
    """Return the accuracies of a model, tested unless they are there already.

    Raises:
        SystemExit: the quickstart has not tested the model, which may be half trained.
    """
    config = CONFIGS / model.base
    folder = work_dir / config.stem
    file = folder / ('metrics.json' if tokens is None else f'metrics_{tokens}_tokens.json')
    if not (folder / 'metrics.json').is_file():
        sys.exit(f'error: {folder} has no tested model: run bash tools/quickstart.sh first')
    if not file.is_file():
        command: list[object] = [sys.executable, ROOT / 'tools' / 'test.py', config]
        command += [Path((folder / 'last_checkpoint').read_text().strip())]
        command += ['--work-dir', folder / 'test', '--out', file, '--out-item', 'metrics']
        command += ['--resolutions', *choose_test_resolutions(model.resolutions[0])]
        command += [] if tokens is None else ['--tokens', tokens]
        environment = {'OMP_WAIT_POLICY': 'PASSIVE', **os.environ, 'MINI_DATA_ROOT': str(work_dir / 'data')}
        subprocess.run(
            [str(word) for word in command], env=environment, check=True, stdout=subprocess.DEVNULL
        )
    title = PATCHES_OF_8 if tokens is None else f'{tokens} tokens'
    return read_curve(file, f'{model.name}, {title}', METRIC, model.resolutions)


def main() -> None:
    """Test, write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dir', type=Path, help='folder of the quickstart')
    stems = [model.stem for model in compared_models()]
    parser.add_argument('--models', nargs='+', choices=stems, default=stems, help='(all)')
    parser.add_argument('--tokens', type=int, nargs='+', default=[64, 100], help='numbers of tokens (64 100)')
    args = parser.parse_args()
    work_dir = args.work_dir.absolute()
    models = [model for model in compared_models() if model.stem in args.models]
    cases = [(model, tokens) for model in models for tokens in (None, *args.tokens)]
    curves = [test(model, work_dir, tokens) for model, tokens in track(cases, 'tests')]
    rows = [
        {'model': curve.name, 'test_resolution': resolution, METRIC: f'{value:.2f}'}
        for curve in curves
        for resolution, value in curve.values.items()
    ]
    write_csv(RESULTS, rows)
    print(format_table(curves))


if __name__ == '__main__':
    main()
