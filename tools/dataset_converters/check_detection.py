"""Check images and annotations of a detection data set in COCO's format before training, entry by entry.

    python tools/dataset_converters/check_detection.py data/coco
    python tools/dataset_converters/check_detection.py --config CONFIG

Reports images that are missing, unreadable or differ in size from their annotations, boxes outside the image
or without area, unknown categories and images, broken masks, and other errors that would impair training.
Exit status: 0 if the data set is valid, 1 if it has errors, 2 after a usage error.
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
from resformer_mm.tasks.detection.check import AnnotatedImages, check_annotated

SPLITS = ('train2017', 'val2017')
OPTIONS_OF_ROOT = ('img_dir', 'ann_file', 'classes', 'strip_prefix', 'crowd_as_objects')


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = check_parser(__doc__)
    parser.add_argument('--img-dir', nargs='+', help='folders of images below DATA_ROOT (train2017 val2017)')
    parser.add_argument(
        '--ann-file',
        nargs='+',
        help='their annotation files below DATA_ROOT (annotations/instances_{train2017,val2017}.json)',
    )
    parser.add_argument('--classes', nargs='+', help='names of the categories to learn, in order (all)')
    parser.add_argument(
        '--strip-prefix', nargs='+', help='beginnings of file names in the annotation files that are removed'
    )
    parser.add_argument(
        '--crowd-as-objects', action='store_true', default=None, help='take crowd regions as objects'
    )
    return parser, parse_check_args(parser)


def sources_below(args: argparse.Namespace) -> list[AnnotatedImages]:
    """Return the folders and files given by the options.

    Raises:
        FileNotFoundError: there is no such data root.
        ValueError: options contradict each other.
    """
    root = existing_root(args.data_root)
    img_dirs = args.img_dir or SPLITS
    ann_files = args.ann_file or [f'annotations/instances_{split}.json' for split in SPLITS]
    if len(img_dirs) != len(ann_files):
        raise ValueError(f'--img-dir names {len(img_dirs)} folders, --ann-file {len(ann_files)}: give pairs')
    classes = None if args.classes is None else tuple(args.classes)
    return [
        AnnotatedImages(
            root / img_dir,
            root / ann_file,
            classes,
            tuple(args.strip_prefix or ()),
            bool(args.crowd_as_objects),
        )
        for img_dir, ann_file in zip(img_dirs, ann_files)
    ]


def main() -> None:
    """Check, report, and exit with a status that shows whether the data set is valid."""
    parser, args = parse_args()
    try:
        if args.config:
            cfg = config_to_check(args, OPTIONS_OF_ROOT)
            sources = configured_sources(cfg, AnnotatedImages.from_config)
        else:
            sources = sources_below(args)
    except (FileNotFoundError, ImportError, ValueError) as error:
        parser.error(str(error))
    report = CheckReport()
    for source in sources:
        report.extend(check_annotated(source, args.workers, show_progress=True))
    print_report(report, args.max_lines)


if __name__ == '__main__':
    main()
