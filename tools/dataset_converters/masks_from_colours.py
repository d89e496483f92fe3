"""Convert colour pictures of segmentation masks to label maps, by a legend of the colours.

    python tools/dataset_converters/masks_from_colours.py data/photos/colours data/photos/annotations \
        --legend colours.csv --ignore Void

The legend lists the classes in the order of their labels: as CSV with the columns name, r, g, b, as JSON
(`{"sky": [128, 128, 128], ...}`), or as text with a line `R G B NAME` per class. Pictures with other colours
are named and not written. Exit status: 0 if all were written, 1 if not, 2 after a usage error.
"""

import argparse
import os
from pathlib import Path

from resformer_mm.datasets.checks.command_line import print_report
from resformer_mm.tasks.segmentation.colours import convert_masks, read_legend


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('colours', type=Path, help='folder of the pictures, with subfolders')
    parser.add_argument('labels', type=Path, help='folder that the label maps and classes.txt are written to')
    parser.add_argument('--legend', required=True, help='file of the colours and names')
    parser.add_argument(
        '--ignore', nargs='+', default=[], metavar='NAME', help='names of the legend that get the label 255'
    )
    parser.add_argument(
        '--ignore-unknown',
        action='store_true',
        help='give other colours the label 255, instead of naming them',
    )
    parser.add_argument('--max-lines', type=int, default=20, help='files to list (default: 20; 0: all)')
    parser.add_argument('--workers', type=int, default=min(16, os.cpu_count() or 1), help='number of threads')
    args = parser.parse_args()
    if args.workers < 1 or args.max_lines < 0:
        parser.error('--workers must be at least 1, --max-lines at least 0')
    return parser, args


def main() -> None:
    """Convert, report, and exit with a status that shows whether all masks were written."""
    parser, args = parse_args()
    try:
        legend = read_legend(args.legend, args.ignore)
        report = convert_masks(
            args.colours, args.labels, legend, args.ignore_unknown, args.workers, show_progress=True
        )
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    print_report(report, args.max_lines)


if __name__ == '__main__':
    main()
