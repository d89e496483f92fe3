"""Check lists of video files before training; every clip is read to its end.

    python tools/dataset_converters/check_video.py data/clips --num-classes 400 \
        --ann-file train_list.txt val_list.txt --video-dir videos_train videos_val --window 256
    python tools/dataset_converters/check_video.py --config CONFIG

Reports lines whose label is missing or out of range, and clips that are missing, empty, truncated, damaged
or not a video. Exit status: 0 if the data set is valid, 1 if it has errors, 2 after a usage error.
"""

import argparse

from resformer_mm.datasets.checks.command_line import (
    check_parser,
    config_to_check,
    existing_root,
    parse_check_args,
    print_report,
)
from resformer_mm.datasets.checks.configured import configured_sources
from resformer_mm.tasks.video.check import ClipList, check_clip_lists
from resformer_mm.tasks.video.files import DEFAULT_TIMEOUT

LISTS = ('train_list.txt', 'val_list.txt')


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = check_parser(__doc__)
    parser.add_argument('--num-classes', type=int, help='number of classes; needed with DATA_ROOT')
    parser.add_argument('--ann-file', nargs='+', help=f'lists below DATA_ROOT ({" ".join(LISTS)})')
    parser.add_argument(
        '--video-dir', nargs='+', help='folders below DATA_ROOT, one for each list or one for all (DATA_ROOT)'
    )
    parser.add_argument(
        '--window', type=int, help='note clips of fewer frames (number of frames times interval in training)'
    )
    parser.add_argument(
        '--timeout', type=float, default=DEFAULT_TIMEOUT, help=f'seconds for each clip ({DEFAULT_TIMEOUT:g})'
    )
    args = parse_check_args(parser)
    if args.timeout <= 0 or (args.window is not None and args.window < 1):
        parser.error('--timeout and --window must be positive')
    return parser, args


def lists_below(args: argparse.Namespace) -> list[ClipList]:
    """Return the lists given by the options.

    Raises:
        FileNotFoundError: there is no such data root.
        ValueError: options are missing or contradict each other.
    """
    root = existing_root(args.data_root)
    if args.num_classes is None or args.num_classes < 1:
        raise ValueError('--num-classes is needed, at least 1: 400 for Kinetics-400')
    lists, folders = args.ann_file or LISTS, args.video_dir or ['']
    if len(folders) not in (1, len(lists)):
        raise ValueError(f'{len(lists)} lists, but --video-dir names {len(folders)}: give as many, or one')
    folders = folders * len(lists) if len(folders) == 1 else folders
    return [
        ClipList(str(root / name), str(root / folder), args.num_classes, window=args.window)
        for name, folder in zip(lists, folders)
    ]


def lists_in_config(args: argparse.Namespace) -> list[ClipList]:
    """Return the lists of the data sets of the config.

    Raises:
        FileNotFoundError: there is no such config.
        ValueError: an option repeats a setting of the config, or the config has no such data set.
    """
    return configured_sources(
        config_to_check(args, ('num_classes', 'ann_file', 'video_dir', 'window')), ClipList.from_config
    )


def main() -> None:
    """Check, report, and exit with a status that shows whether the data set is valid."""
    parser, args = parse_args()
    try:
        lists = lists_in_config(args) if args.config else lists_below(args)
    except (FileNotFoundError, ImportError, ValueError) as error:
        parser.error(str(error))
    print_report(check_clip_lists(lists, args.timeout, args.workers, show_progress=True), args.max_lines)


if __name__ == '__main__':
    main()
