"""Write the embedded data: pictures and clips of textured objects.

    python tools/dataset_converters/make_embedded_data.py ROOT [--task classification] [--seed 0]
        [--num-train 2000] [--num-val 500] [--size 128] [--workers 2]

Writes for classification ``ROOT/{train,val}/CLASS/*.jpg``, for segmentation ADE20K's layout,
``ROOT/{images,annotations}/{training,validation}`` with ``ROOT/classes.txt``, for detection COCO's,
``ROOT/{train2017,val2017}`` with ``ROOT/annotations/instances_{train2017,val2017}.json``, for video
``ROOT/{train,val}/MOTION/*.avi`` with ``ROOT/{train,val}_list.txt``, and always ``ROOT/manifest.json``. A
second call with the same settings finds the data and does nothing; an interrupted call is completed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resformer_mm.progress import track
from resformer_mm.synthetic import (
    CLASSES,
    DETECTION_CATEGORIES,
    MOTIONS,
    SEGMENTATION_CLASSES,
    FolderConflictError,
    write_clips,
    write_detection,
    write_image_folder,
    write_segmentation,
)


@dataclass(frozen=True)
class Task:
    """The function that writes the data of a task, and its default amounts."""

    write: Callable[..., bool]
    num_classes: int
    num_train: int
    num_val: int
    size: int = 128
    samples: str = 'pictures'


TASKS = {
    'classification': Task(write_image_folder, len(CLASSES), 2000, 500),
    'detection': Task(write_detection, len(DETECTION_CATEGORIES), 800, 100),
    'segmentation': Task(write_segmentation, len(SEGMENTATION_CLASSES), 400, 100),
    'video': Task(write_clips, len(MOTIONS), 480, 120, size=64, samples='clips'),
}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; exit with status 2 after a usage error."""
    parser = argparse.ArgumentParser(description='Write the embedded data of a task.')
    parser.add_argument(
        'root', type=Path, help='folder to write: a new or empty one, or one that this tool wrote'
    )
    parser.add_argument(
        '--task', choices=TASKS, default='classification', help='task of the data (classification)'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of all randomness')
    for name, split in (('num_train', 'training'), ('num_val', 'validation')):
        counts = ', '.join(f'{getattr(task, name)} for {which}' for which, task in TASKS.items())
        option = f'--{name.replace("_", "-")}'
        parser.add_argument(option, type=int, help=f'number of {split} samples ({counts})')
    parser.add_argument(
        '--size',
        type=int,
        help='height and width (128 for classification, 64 for video), or the shorter side around which '
        'sizes spread (128 for segmentation and detection)',
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=min(8, os.cpu_count() or 1),
        help='number of processes; the files do not depend on it',
    )
    args = parser.parse_args(argv)
    for name in ('num_train', 'num_val', 'size'):
        if getattr(args, name) is None:
            setattr(args, name, getattr(TASKS[args.task], name))
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Write the data; return the exit status: 0, or 1 after an error, printed on stderr."""
    args = parse_args(argv)
    start = time.perf_counter()
    try:
        written = TASKS[args.task].write(
            args.root,
            num_train=args.num_train,
            num_val=args.num_val,
            seed=args.seed,
            size=args.size,
            workers=args.workers,
            track=track,
        )
    except (ValueError, FolderConflictError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    what = f'{args.num_train} training and {args.num_val} validation {TASKS[args.task].samples}'
    if written:
        seconds = time.perf_counter() - start
        print(f'{args.root}: wrote {what} of {TASKS[args.task].num_classes} classes in {seconds:.1f} s')
    else:
        print(f'{args.root}: {what} already exist, nothing to do')
    return 0


if __name__ == '__main__':
    sys.exit(main())
