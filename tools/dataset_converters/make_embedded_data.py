"""Writes the embedded data: pictures of textured objects, as an image folder.

    python tools/dataset_converters/make_embedded_data.py ROOT [--seed 0] [--num-train 2000]
        [--num-val 500] [--size 128] [--workers 2]

Makes ``ROOT/{train,val}/CLASS/*.jpg`` and ``ROOT/manifest.json``. A second call with the same
settings finds the data and does nothing; an interrupted one is completed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from resformer_mm.datasets.synthetic import CLASSES, FolderConflictError, write_image_folder


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; ends the process with status 2 if it makes no sense."""
    parser = argparse.ArgumentParser(description='Write the embedded data as an image folder.')
    parser.add_argument('root', type=Path, help='folder to write; absent, empty or made by this')
    parser.add_argument('--seed', type=int, default=0, help='seed of all randomness')
    parser.add_argument('--num-train', type=int, default=2000, help='number of training pictures')
    parser.add_argument('--num-val', type=int, default=500, help='number of validation pictures')
    parser.add_argument('--size', type=int, default=128, help='height and width in pixels')
    parser.add_argument(
        '--workers',
        type=int,
        default=min(8, os.cpu_count() or 1),
        help='number of processes; the files do not depend on it',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the data; returns the exit status: 0, or 1 after an error told on stderr."""
    args = parse_args(argv)
    start = time.perf_counter()
    try:
        written = write_image_folder(
            args.root,
            num_train=args.num_train,
            num_val=args.num_val,
            seed=args.seed,
            size=args.size,
            workers=args.workers,
        )
    except (ValueError, FolderConflictError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    what = f'{args.num_train} training and {args.num_val} validation pictures'
    if written:
        seconds = time.perf_counter() - start
        print(f'{args.root}: wrote {what} of {len(CLASSES)} classes in {seconds:.1f} s')
    else:
        print(f'{args.root}: {what} are there already, nothing to do')
    return 0


if __name__ == '__main__':
    sys.exit(main())
