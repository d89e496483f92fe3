"""Difference between copies from JPEG files decoded at reduced size and from the same files decoded fully.

    python benchmarks/reduced_decoding.py --images data/coco/val2017 \\
        --out benchmarks/results/reduced_decoding.csv

Crops of at least half the height and width are drawn from every image, and resized with antialiasing so that
the reduced image has a given number of pixels per pixel of the copy. Their edges are rounded to pixels of the
reduced image. Both copies have the same edges; `moved` is the difference of the reduced one to a copy with
the drawn edges. The unit is a grey level of 8 bits; the contrast is the ratio of the standard deviations.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from resformer_mm.datasets.crops import Crop
from resformer_mm.datasets.image_files import opened_image
from resformer_mm.datasets.jpeg import decode_jpeg, read_jpeg_header
from resformer_mm.files import write_csv
from resformer_mm.progress import track

DENOMINATORS = (2, 4, 8)
OVERSAMPLING = (1, 1.5, 2, 3)
CROPS = 3


def resized(image: np.ndarray, crop: Crop) -> np.ndarray:
    """Return a crop, resized to its output by Pillow."""
    box = image[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    height, width = crop.output
    return np.asarray(Image.fromarray(box).resize((width, height), Image.Resampling.BICUBIC), np.float32)


def differences(path: Path, rng: np.random.Generator) -> dict[tuple[int, float], list[tuple[float, ...]]]:
    """Return mean, 99th percentile, largest value and the others by denominator and oversampling."""
    content = path.read_bytes()
    with opened_image(content) as file:
        header = read_jpeg_header(file, content)
    found = defaultdict(list)
    full = None if header is None else decode_jpeg(content, header)
    if header is None or full is None:
        return found
    reduced = {number: decode_jpeg(content, header, number) for number in DENOMINATORS}
    for number, oversampling, _ in itertools.product(DENOMINATORS, OVERSAMPLING, range(CROPS)):
        height, width = (int(side * rng.uniform(0.5, 1)) for side in (header.height, header.width))
        side = int(min(height, width) / number / oversampling)
        top, left = rng.integers(header.height - height + 1), rng.integers(header.width - width + 1)
        drawn = Crop(int(top), int(left), height, width, (side, side))
        crop = drawn.reduced(number)
        copy = resized(reduced[number], crop)
        same = Crop(*(number * value for value in crop[:4]), crop.output)
        expected = resized(full, same)
        difference = np.abs(copy - expected)
        found[number, oversampling].append(
            (
                difference.mean(),
                np.percentile(difference, 99),
                difference.max(),
                copy.std() / expected.std(),
                np.abs(copy - resized(full, drawn)).mean(),
            )
        )
    return found


def main() -> None:
    """Measure all images and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--images', type=Path, required=True, help='folder of JPEG files')
    parser.add_argument('--number', type=int, default=60, help='images, the first by name (60)')
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    collected = defaultdict(list)
    paths = sorted(args.images.glob('*.jpg'))[: args.number]
    for path in track(paths, 'images'):
        for key, values in differences(path, rng).items():
            collected[key] += values
    rows = []
    for (number, oversampling), values in sorted(collected.items()):
        mean, percentile, _, contrast, moved = np.mean(values, axis=0)
        rows.append(
            {
                'size': f'1/{number}',
                'oversampling': oversampling,
                'mean': f'{mean:.2f}',
                'percentile_99': f'{percentile:.1f}',
                'largest': f'{max(value[2] for value in values):.0f}',
                'contrast': f'{contrast:.3f}',
                'moved': f'{moved:.2f}',
                'images': len(paths),
            }
        )
        print(', '.join(f'{name} {value}' for name, value in rows[-1].items()))
    write_csv(args.out, rows)


if __name__ == '__main__':
    main()
