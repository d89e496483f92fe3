"""Convert label maps of segmentation masks to colour pictures, by a legend of the colours.

    python tools/dataset_converters/masks_to_colours.py data/photos/annotations data/photos/colours \
        --legend colours.csv --ignore Void

The legend is that of `masks_from_colours.py`, which is the way back. `--palette` writes pictures whose pixels
keep their values, and which viewers show in colour. Label maps with other values are named and not written.
Exit status: 0 if all were written, 1 if not, 2 after a usage error.
"""

import argparse
import os
from pathlib import Path

from resformer_mm.datasets.checks.command_line import print_report
from resformer_mm.tasks.segmentation.colouring import colour_masks
from resformer_mm.tasks.segmentation.colours import read_legend


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('labels', type=Path, help='folder of the label maps, with subfolders')
    parser.add_argument('colours', type=Path, help='folder that the pictures are written to')
    parser.add_argument('--legend', required=True, help='file of the colours and names')
    parser.add_argument(
        '--ignore', nargs='+', default=[], metavar='NAME', help='names of the legend whose label is 255'
    )
    parser.add_argument('--palette', action='store_true', help='palette pictures, which keep the labels')
    parser.add_argument('--max-lines', type=int, default=20, help='files to list (default: 20; 0: all)')
    parser.add_argument('--workers', type=int, default=min(16, os.cpu_count() or 1), help='number of threads')
    args = parser.parse_args()
    if args.workers < 1 or args.max_lines < 0:
        parser.error('--workers must be at least 1, --max-lines at least 0')
    return parser, args


def main() -> None:
    """Convert, report, and exit with a status that shows whether all pictures were written."""
    parser, args = parse_args()
    try:
        legend = read_legend(args.legend, args.ignore)
        report = colour_masks(
            args.labels, args.colours, legend, args.palette, args.workers, show_progress=True
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print_report(report, args.max_lines)


if __name__ == '__main__':
    main()
