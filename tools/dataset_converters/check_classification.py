"""Check class folders of images, or lists of them, before training, file by file.

    python tools/dataset_converters/check_classification.py data/photos
    python tools/dataset_converters/check_classification.py --config CONFIG

Reports splits with different classes, images that are unreadable, have suffixes that are not used or are the
same as others, hidden and empty folders, and lists with other labels than those of the folders. Exit status:
0 if the data set is valid, 1 if it has errors, 2 after a usage error.
"""

import argparse

from resformer_mm.datasets.checks.command_line import (
    check_parser,
    config_to_check,
    existing_root,
    parse_check_args,
    print_report,
)
from resformer_mm.datasets.checks.task_check import CheckOptions
from resformer_mm.tasks.classification.check import ClassFolders, check_class_folders
from resformer_mm.tasks.classification.data_check import ClassificationCheck


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = check_parser(__doc__)
    parser.add_argument('--num-classes', type=int, help='number of classes that the model has')
    parser.add_argument(
        '--split', nargs='+', help='folders of class folders below DATA_ROOT (train, val and test)'
    )
    return parser, parse_check_args(parser)


def sources_below(args: argparse.Namespace) -> list[ClassFolders]:
    """Return the splits given by the options.

    Raises:
        FileNotFoundError: there is no such data root, or it has no class folders.
    """
    root = existing_root(args.data_root)
    if args.split:
        return [
            ClassFolders(str(root / name), num_classes=args.num_classes, name=name) for name in args.split
        ]
    sources = ClassificationCheck().below(root, CheckOptions(num_classes=args.num_classes))
    if not sources:
        raise FileNotFoundError(
            f'{root} has no folders of images, neither as splits nor as classes: see docs/data.md'
        )
    return sources


def main() -> None:
    """Check, report, and exit with a status that shows whether the data set is valid."""
    parser, args = parse_args()
    try:
        if args.config:
            sources = ClassificationCheck().in_config(config_to_check(args, ('num_classes', 'split')))
        else:
            sources = sources_below(args)
    except (FileNotFoundError, ImportError, ValueError) as error:
        parser.error(str(error))
    report = check_class_folders(sources, args.workers, show_progress=True)
    print_report(report, args.max_lines, details=True)


if __name__ == '__main__':
    main()
