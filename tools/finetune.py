"""Fine-tune on a folder of your own data: check it, write a config, train, and evaluate by resolution.

    python tools/finetune.py data/photos --weights classifier.pth
    python tools/finetune.py data/photos --dry-run        # the check and the config alone

Class folders, lists, masks (of numbers, or of colours with a list of them), videos, and exports in COCO,
YOLO, Pascal VOC, LabelMe, CVAT, Label Studio and Roboflow format are recognised; images stay where they
are. Without a validation split, a part of the data is held back, with the frames of a video on one side.
OUT_DIR gets the config, which tools/train.py takes as well, the checkpoints, and the pages of the evaluation.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from resformer_mm.checkpoints import CheckpointError
from resformer_mm.datasets.checks.task_check import CheckOptions
from resformer_mm.finetuning import check_folder, make_plan, prepare_data, write_config
from resformer_mm.finetuning.plan import RECIPES

TOOLS = Path(__file__).resolve().parent
CONFIG = 'config.py'
# Options that decide what is in the config.
PLANNED = (
    'task', 'arch', 'weights', 'resolutions', 'epochs', 'batch_size', 'frozen_stages', 'lora', 'num_classes',
    'reduce_zero_label', 'ignore_index',
)  # fmt: skip


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', type=Path, help='folder of the data')
    parser.add_argument('--task', choices=list(RECIPES), help='task (found out from the folder)')
    parser.add_argument(
        '--arch',
        choices=['mini', 'tiny', 'small', 'base'],
        help='that of the weights; or small, mini on a CPU',
    )
    parser.add_argument(
        '--weights', help='file, folder or hf-hub:owner/name to start from, of this project or another ViT'
    )
    parser.add_argument(
        '--resolutions', nargs='+', default=['auto'], help='training resolutions in pixels, or auto'
    )
    parser.add_argument('--epochs', type=int, help='number of epochs (by the number of samples)')
    parser.add_argument('--batch-size', type=int, help='samples of a step, on each GPU')
    parser.add_argument('--frozen-stages', type=int, metavar='N', help='blocks that are not trained')
    parser.add_argument(
        '--lora', type=int, metavar='RANK', help='train adapters of this rank, not the backbone'
    )
    parser.add_argument('--out-dir', type=Path, help='folder of the results (work_dirs/finetune/DATA)')
    parser.add_argument('--gpus', type=int, default=1, help='number of processes (1)')
    parser.add_argument('--num-classes', type=int, help='number of classes, where the folder does not tell')
    parser.add_argument(
        '--reduce-zero-label', action=argparse.BooleanOptionalAction, help='value 0 of a mask is ignored'
    )
    parser.add_argument('--ignore-index', type=int, nargs='+', help='value of ignored pixels in masks (255)')
    parser.add_argument('--dry-run', action='store_true', help='stop once the config is written')
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on where an earlier run in the folder of the results stopped',
    )
    args = parser.parse_args()
    args.out_dir = args.out_dir or Path('work_dirs', 'finetune', args.data.resolve().name)
    for name in ('epochs', 'batch_size', 'gpus'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    if args.resolutions == ['auto']:
        args.resolutions = None
    elif all(word.isdecimal() for word in args.resolutions):
        args.resolutions = [int(word) for word in args.resolutions]
    else:
        parser.error(f'--resolutions {" ".join(args.resolutions)}: give numbers of pixels, or auto')
    return parser, args


def main() -> None:
    """Check, write the config, train and evaluate."""
    parser, args = parse_args()
    config = args.out_dir / CONFIG
    if args.resume and not config.is_file():
        parser.error(f'--resume: there is no {config}')
    if not args.resume:
        if config.exists():
            parser.error(f'{config} exists: train with it or go on with --resume, or give another --out-dir')
        write(parser, args, config)
    elif unused := [name for name in PLANNED if getattr(args, name) is not None]:
        options = ', '.join(f'--{name.replace("_", "-")}' for name in unused)
        print(f'{options}: not used, because --resume goes on with {config} as it is')
    if args.dry_run:
        command = ['python', 'tools/finetune.py', args.data, '--out-dir', args.out_dir, '--resume']
        print(f'\nNothing is trained yet. To train with this config, changed or not:\n    {shown(command)}')
        return
    train(config, args)
    checkpoint = best_checkpoint(args.out_dir / 'work')
    names = ['--names', args.data.resolve().name or 'model']
    run('analysis_tools/resolution_sweep.py', config, checkpoint, '--out-dir', args.out_dir / 'sweep', *names)
    command = ['python', 'tools/demo.py', 'INPUT', config, checkpoint, '--out-dir', 'predictions']
    print(f'\nPages of the evaluation: {args.out_dir / "sweep" / "sweep.html"}')
    print(f'Predict on an image, a folder or a video:\n    {shown(command)}')


def shown(command: Sequence[object]) -> str:
    """Return a command as it is typed."""
    return shlex.join(map(str, command))


def write(parser: argparse.ArgumentParser, args: argparse.Namespace, config: Path) -> None:
    """Check the data, and write the config; end the process if the data has faults."""
    options = CheckOptions(
        args.num_classes,
        args.reduce_zero_label,
        args.ignore_index or 255,
        os.cpu_count() or 1,
        show_progress=True,
    )
    try:
        task, sources, report = check_folder(args.data, args.out_dir / 'data', options, args.task)
        print(f'{args.data}: data for {task}\n{report.text(10, details=True)}')
        if not report.is_sound:
            parser.exit(
                1,
                f'{args.data} has faults: correct them. tools/check_data.py --fix repairs what is certain\n',
            )
        data = prepare_data(task, sources, args.out_dir / 'data')
        plan = make_plan(
            data,
            args.arch,
            args.weights,
            args.resolutions,
            args.epochs,
            args.batch_size,
            args.frozen_stages,
            args.lora,
        )
    except (OSError, ImportError, ValueError, CheckpointError) as error:
        parser.error(str(error))
    write_config(config, data, plan)
    test = f', {data.num_test} to test' if data.test else ''
    print(f'{config}: {data.num_train} samples to train on, {data.num_val} to validate{test}')
    print(''.join(f'- {line}\n' for line in (*data.notes, *plan.notes)), end='')


def train(config: Path, args: argparse.Namespace) -> None:
    """Train with the tool that the config names."""
    options = [config, '--work-dir', args.out_dir / 'work', *(['--resume'] if args.resume else [])]
    if args.gpus == 1:
        run('train.py', *options)
        return
    command = ['bash', TOOLS / 'dist_train.sh', options[0], args.gpus, *options[1:]]
    execute(command, {**os.environ, 'PYTHON': sys.executable})


def run(tool: str, *arguments: object) -> None:
    """Run another tool."""
    execute([sys.executable, TOOLS / tool, *arguments], None)


def execute(command: list[object], environment: dict[str, str] | None) -> None:
    """Run a command; end with its status if it fails."""
    words = [str(word) for word in command]
    print(f'\n$ {shlex.join(words)}', flush=True)
    status = subprocess.run(words, env=environment).returncode
    if status:
        sys.exit(status)


def best_checkpoint(work_dir: Path) -> Path:
    """Return the best checkpoint of the last run, or the last one if no metric was a number."""
    best = sorted(work_dir.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    return best[-1] if best else Path((work_dir / 'last_checkpoint').read_text())


if __name__ == '__main__':
    main()
