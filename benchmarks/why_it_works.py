"""Diagnoses of the models of several experiments, side by side: what docs/why_it_works.md is about.

    RUN="python benchmarks/experiments/run.py --seeds 0 --train-data DATA --test-data VAL"
    $RUN every_size --variants plain single
    $RUN positions --variants ape gpe
    $RUN models --variants deit-64
    python benchmarks/why_it_works.py --test-data VAL

Runs ``tools/analysis_tools/diagnose_sizes.py`` on their checkpoints, and writes ``why_it_works_PART.csv`` to
``--results`` and ``why_it_works_PART.png`` to ``--pictures``. About 5 to 10 minutes per model on one core.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / 'tools' / 'analysis_tools' / 'diagnose_sizes.py'
MODELS = {
    'DeiT on 64': ('models', 'deit-64'),
    'APE on 64, 48, 32': ('positions', 'ape'),
    'GPE on 64, 48, 32': ('positions', 'gpe'),
    'GPE and LPE on 64': ('every_size', 'single'),
    'GPE and LPE on 64, 48, 32': ('every_size', 'plain'),
}
"""Name -> experiment and variant."""


class MissingModel(Exception):
    """A checkpoint is missing; the message has the command that trains it."""


def find_model(work_dirs: Path, experiment: str, variant: str, seed: int, epochs: int) -> tuple[Path, Path]:
    """Return config and checkpoint of a variant.

    Raises:
        MissingModel: it is not trained.
    """
    folder = work_dirs / experiment / variant / f'seed_{seed}_{epochs}e'
    config, checkpoint = folder / f'{variant}.py', folder / f'epoch_{epochs}.pth'
    if not (config.is_file() and checkpoint.is_file()):
        raise MissingModel(
            f'there is no {checkpoint} with its config: train it by benchmarks/experiments/run.py '
            f'{experiment} --variants {variant} --seeds {seed} --train-data DATA --test-data VAL'
        )
    return config, checkpoint


def command(args: argparse.Namespace, out_dir: Path) -> list[str]:
    """Return the command of the diagnosis.

    Raises:
        MissingModel: a model is not trained.
    """
    found = [find_model(args.work_dirs, *MODELS[name], args.seed, args.epochs) for name in args.models]
    first, *others = found
    words = [sys.executable, TOOL, *first]
    for other in others:
        words += ['--baseline', *other]
    words += ['--names', *args.models, '--resolutions', *args.resolutions, '--reference', args.reference]
    words += ['--out-dir', out_dir]
    if args.max_images is not None:
        words += ['--max-images', args.max_images]
    dataset = 'test_dataloader.dataset'
    words += ['--cfg-options', f'{dataset}.data_root={args.test_data.absolute()}', f'{dataset}.data_prefix=']
    return list(map(str, words))


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--test-data', type=Path, required=True, help='folder of the classes of test images')
    parser.add_argument(
        '--models', nargs='+', default=list(MODELS), choices=list(MODELS), help='models (all)'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the trainings (0)')
    parser.add_argument('--epochs', type=int, default=30, help='length of the trainings (30)')
    parser.add_argument('--resolutions', nargs='+', type=int, default=[16, 24, 32, 48, 96, 128])
    parser.add_argument('--reference', type=int, default=64, help='resolution to compare with (64)')
    parser.add_argument('--max-images', type=int, help='number of test images (all)')
    parser.add_argument(
        '--work-dirs', type=Path, default=ROOT / 'work_dirs', help='folder of the experiments'
    )
    parser.add_argument('--results', type=Path, default=ROOT / 'benchmarks' / 'results')
    parser.add_argument('--pictures', type=Path, default=ROOT / 'docs' / 'images')
    return parser, parser.parse_args()


def main() -> None:
    """Run the diagnosis, and copy its tables and pictures."""
    parser, args = parse_args()
    out_dir = args.work_dirs / 'why_it_works' / f'seed_{args.seed}'
    try:
        words = command(args, out_dir)
    except MissingModel as error:
        parser.error(str(error))
    if code := subprocess.run(words, cwd=ROOT).returncode:
        sys.exit(code)
    for pattern, folder in (('*.csv', args.results), ('*.png', args.pictures)):
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(out_dir.glob(pattern)):
            print(shutil.copy(file, folder / f'why_it_works_{file.name}'))


if __name__ == '__main__':
    main()
