"""Check images and masks of a segmentation data set before training, file by file.

    python tools/dataset_converters/check_segmentation.py data/ade/ADEChallengeData2016 --num-classes 150
    python tools/dataset_converters/check_segmentation.py --config CONFIG

Reports masks that are missing, unreadable, differ in size from their image or have label values out of range,
and other errors that would impair training. Exit status: 0 if the data set is valid, 1 if it has errors,
2 after a usage error.
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
from resformer_mm.datasets.checks.report import CheckReport
from resformer_mm.tasks.segmentation.check import PairFolders, check_pairs
from resformer_mm.tasks.segmentation.label_maps import LabelValues

SPLITS = ('training', 'validation')


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = check_parser(__doc__)
    parser.add_argument('--num-classes', type=int, help='number of classes; needed with DATA_ROOT')
    parser.add_argument(
        '--reduce-zero-label',
        action=argparse.BooleanOptionalAction,
        help='value 0 of a mask is ignored and value 1 the first class, as in ADE20K (the default)',
    )
    parser.add_argument(
        '--ignore-index', type=int, nargs='+', help='value of ignored pixels, or several (255)'
    )
    parser.add_argument(
        '--img-dir', nargs='+', help='folders of images below DATA_ROOT (images/{training,validation})'
    )
    parser.add_argument(
        '--ann-dir', nargs='+', help='folders of their masks (annotations/{training,validation})'
    )
    parser.add_argument('--img-suffix', help='end of the names of images (.jpg)')
    parser.add_argument('--seg-map-suffix', help='end of the names of masks (.png)')
    parser.add_argument(
        '--crop', nargs='+', type=int, metavar='PIXELS', help='note images smaller than this HEIGHT [WIDTH]'
    )
    args = parse_check_args(parser)
    if args.crop is not None and (len(args.crop) > 2 or min(args.crop) < 1):
        parser.error('--crop takes one or two positive numbers of pixels: HEIGHT [WIDTH]')
    return parser, args


def folders_below(args: argparse.Namespace) -> list[PairFolders]:
    """Return the folders given by the options.

    Raises:
        FileNotFoundError: there is no such data root.
        ValueError: options are missing or contradict each other.
    """
    root = existing_root(args.data_root)
    if args.num_classes is None:
        raise ValueError('--num-classes is needed: 150 for ADE20K')
    reduce_zero_label = True if args.reduce_zero_label is None else args.reduce_zero_label
    ignore_index = args.ignore_index or 255
    labels = LabelValues(args.num_classes, reduce_zero_label, ignore_index)
    img_dirs = args.img_dir or [f'images/{split}' for split in SPLITS]
    ann_dirs = args.ann_dir or [f'annotations/{split}' for split in SPLITS]
    if len(img_dirs) != len(ann_dirs):
        raise ValueError(f'--img-dir names {len(img_dirs)} folders, --ann-dir {len(ann_dirs)}: give pairs')
    return [
        PairFolders(
            root / img_dir,
            root / ann_dir,
            labels,
            args.img_suffix or '.jpg',
            args.seg_map_suffix or '.png',
        )
        for img_dir, ann_dir in zip(img_dirs, ann_dirs)
    ]


def folders_in_config(args: argparse.Namespace) -> list[PairFolders]:
    """Return the folders of the data sets of the config.

    Raises:
        FileNotFoundError: there is no such config.
        ValueError: an option repeats a setting of the config, or the config has no such data set.
    """
    layout = ('num_classes', 'reduce_zero_label', 'ignore_index', 'img_dir', 'ann_dir', 'img_suffix')
    return configured_sources(config_to_check(args, (*layout, 'seg_map_suffix')), PairFolders.from_config)


def main() -> None:
    """Check, report, and exit with a status that shows whether the data set is valid."""
    parser, args = parse_args()
    try:
        folders = folders_in_config(args) if args.config else folders_below(args)
    except (FileNotFoundError, ImportError, ValueError) as error:
        parser.error(str(error))
    crop_size = None if args.crop is None else (args.crop[0], args.crop[-1])
    report = CheckReport()
    for pair in folders:
        report.extend(check_pairs(pair, crop_size, args.workers, show_progress=True))
    print_report(report, args.max_lines)


if __name__ == '__main__':
    main()
