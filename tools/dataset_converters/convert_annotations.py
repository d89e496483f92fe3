"""Convert annotations of boxes and masks between the formats of labelling tools.

    python tools/dataset_converters/convert_annotations.py data/export data/coco --to coco
    python tools/dataset_converters/convert_annotations.py data/coco data/yolo --from coco --to yolo
    python tools/dataset_converters/convert_annotations.py results data/next --from predictions --to labelme

SOURCE is a folder with images and their annotations: COCO (also Roboflow's), YOLO, Pascal VOC, LabelMe, CVAT
("for images 1.1"), Label Studio (JSON or JSON-MIN) or VisDrone; with `--from predictions`, the `--out-dir` of
`tools/demo.py`. `--to masks` writes label maps for semantic segmentation. Prints what was found, what of it
is not read, and what the new format cannot hold. With faults, nothing is written, unless `--leave-out` says
to go on without the faulty entries. Exit status: 0 if all was written, 1 if there were faults, 2 after a
usage error.
"""

import argparse
import sys
from pathlib import Path

from resformer_mm.control_characters import printable
from resformer_mm.formats.conversion import (
    IMAGES,
    SOURCES,
    TARGETS,
    check_new,
    read_annotations,
    summary,
    write_annotations,
)
from resformer_mm.formats.predictions import read_predictions

PREDICTIONS = 'predictions'


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='folder of images and annotations')
    parser.add_argument('out', type=Path, help='new folder')
    parser.add_argument(
        '--from', dest='source_format', choices=('auto', *SOURCES, PREDICTIONS), default='auto', help='(auto)'
    )
    parser.add_argument('--to', required=True, choices=TARGETS, help='format to write')
    parser.add_argument(
        '--images',
        choices=IMAGES,
        default='copy',
        help='what becomes of the images (copy); symbolic links take no space',
    )
    parser.add_argument(
        '--crowd-as-objects',
        action='store_true',
        help='take crowd regions as objects, because a tool exported every mask as one',
    )
    parser.add_argument('--boxes-only', action='store_true', help='write boxes without masks')
    parser.add_argument('--leave-out', action='store_true', help='go on without the entries that have faults')
    parser.add_argument(
        '--score-thr', type=float, help='minimum score of predictions (those of predictions.json)'
    )
    parser.add_argument(
        '--image-prefix',
        help='for Label Studio: what precedes the names of images below OUT (/data/local-files/?d=)',
    )
    parser.add_argument('--max-lines', type=int, default=20, help='files to list per finding (20; 0: all)')
    args = parser.parse_args()
    if args.max_lines < 0:
        parser.error('--max-lines must be at least 0')
    if args.image_prefix is not None and args.to != 'labelstudio':
        parser.error('--image-prefix goes with --to labelstudio')
    if args.score_thr is not None and args.source_format != PREDICTIONS:
        parser.error(f'--score-thr goes with --from {PREDICTIONS}')
    return parser, args


def main() -> int:
    """Convert, and report what was found and what is lost."""
    parser, args = parse_args()
    try:
        check_new(args.out)
        if args.source_format == PREDICTIONS:
            data = read_predictions(args.source, args.score_thr)
        else:
            data = read_annotations(args.source, args.source_format)
        if args.crowd_as_objects:
            for _, _, thing in data.objects():
                thing.is_crowd = False
        report = summary(data)
        print(data.report.text(args.max_lines or None, details=True))
        print(printable(report))
        if not data.report.is_sound and not args.leave_out:
            print('nothing was written: correct the faults, or go on without these entries with --leave-out')
            return 1
        lost = write_annotations(
            data, args.out, args.to, args.images, args.image_prefix, args.boxes_only, show_progress=True
        )
    except (OSError, ValueError) as error:
        parser.error(printable(str(error)))
    print(f'{args.out}: written as {args.to}')
    for what, count in lost.items():
        print(printable(f'lost: {count} {what}'))
    return int(not data.report.is_sound)


if __name__ == '__main__':
    sys.exit(main())
