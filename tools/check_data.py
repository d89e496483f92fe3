"""Check the data of any task before training, and write a repaired copy of it.

    python tools/check_data.py data/photos
    python tools/check_data.py CONFIG
    python tools/check_data.py data/photos --fix data/photos_repaired

The folder is class folders of images, folders of images and masks, images with annotation files in COCO
format, or videos with lists. `--fix` copies what training reads to a new folder, repairs what is certain,
and checks the copy; the data itself is never changed. Exit status: 0 if the data is sound, 1 if it has
faults, 2 after a usage error.
"""

import argparse
import os
from pathlib import Path

from resformer_mm.config.command_line import add_config_options, add_strict
from resformer_mm.config.files import read_config
from resformer_mm.datasets.checks.all_tasks import sources_below, sources_in_config
from resformer_mm.datasets.checks.command_line import print_report
from resformer_mm.datasets.checks.task_check import CheckOptions, repaired_copy
from resformer_mm.formats.conversion import folder_of
from resformer_mm.formats.recognition import conversion_hint
from resformer_mm.libraries import TASKS
from resformer_mm.repairs import set_strict


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', type=Path, help='folder of the data, or config whose data sets are checked')
    parser.add_argument(
        '--task', choices=[name for name, task in TASKS.items() if task.data_check], help='task of the folder'
    )
    parser.add_argument(
        '--fix', metavar='DIR', help='new folder for a copy in which what is certain is repaired'
    )
    parser.add_argument('--num-classes', type=int, help='number of classes that the model has')
    parser.add_argument(
        '--reduce-zero-label',
        action=argparse.BooleanOptionalAction,
        help='value 0 of a mask is ignored, and value 1 the first class (default: for images/, annotations/)',
    )
    parser.add_argument(
        '--ignore-index', type=int, nargs='+', help='value of ignored pixels in masks, or several (255)'
    )
    add_strict(parser)
    parser.add_argument(
        '--max-lines', type=int, default=20, help='files to list per kind of finding (default: 20; 0: all)'
    )
    parser.add_argument('--workers', type=int, default=min(16, os.cpu_count() or 1), help='number of threads')
    add_config_options(parser)
    args = parser.parse_args()
    if args.workers < 1 or args.max_lines < 0:
        parser.error('--workers must be at least 1, --max-lines at least 0')
    if args.data.is_file():
        given = [
            name
            for name in ('task', 'num_classes', 'reduce_zero_label', 'ignore_index')
            if getattr(args, name) is not None
        ]
        if given:
            parser.error(f'--{given[0].replace("_", "-")} goes with a folder: set it in the config instead')
    return parser, args


def main() -> None:
    """Check, report, and exit with a status that shows whether the data is sound."""
    parser, args = parse_args()
    set_strict(args.strict)
    options = CheckOptions(
        args.num_classes,
        args.reduce_zero_label,
        args.ignore_index or 255,
        args.workers,
        show_progress=True,
    )
    try:
        if args.data.is_file():
            cfg = read_config(args.data, args.cfg_options)
            set_strict(args.strict or bool(cfg.get('strict_data', False)))
            check, sources = sources_in_config(cfg)
        else:
            try:
                folder = folder_of(args.data)
                task, check, sources = sources_below(folder, options, args.task)
            except ValueError as error:
                parser.error(f'{error}{conversion_hint(args.data)}')
            print(f'{folder}: data for {task}')
        if args.fix is not None:
            sources, repairs = repaired_copy(check, sources, args.fix, show_progress=True)
            print(f'{args.fix}: a copy with {len(repairs)} kind{"s" * (len(repairs) != 1)} of repairs')
            print(''.join(f'  {line}\n' for line in repairs), end='')
        report = check.check(sources, options)
    except (OSError, ImportError, ValueError) as error:
        parser.error(str(error))
    print_report(report, args.max_lines, details=True)


if __name__ == '__main__':
    main()
