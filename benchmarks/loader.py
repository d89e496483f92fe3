"""Processor time per sample of the training pipeline of ImageNet configs, by stage and resolution.

    python benchmarks/loader.py --out benchmarks/results/loader_cpu.csv

The images are JPEG files of 0.2, 1, 4 and 12 megapixels, made by this script: noise of all scales, as photos
have. The pipelines are those of this package at one, two and three resolutions, also with random draws that
the copies share, and without colour jitter, which that of mmpretrain's DeiT lacks, too. All run in this
process, with one thread, as in a worker of a data loader. Every image passes all pipelines in a rotating
order. Times are means over the images, in milliseconds of processor time, because the random draws decide
what an image costs; the ratios are those of the totals. Rows of earlier code stay in the file, under the name
that `--code` gave them.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from PIL import Image

from resformer_mm.analysis.machine import describe_device
from resformer_mm.datasets.multi_resolution import MultiResolution
from resformer_mm.datasets.opening import OpenImage
from resformer_mm.files import write_csv
from resformer_mm.progress import track
from resformer_mm.registry import TRANSFORMS

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs/classification/resformer-small_mr-224-160-128_8xb128-300e_in1k.py'
BASELINE = 'mmpretrain::deit/deit-small_4xb256_in1k.py'
PHOTOS = {'0.2': (500, 375), '1': (1152, 864), '4': (2304, 1728), '12': (4000, 3000)}  # megapixels
# Stage -> names of transforms.
STAGES = {
    'decode': ('LoadImage', 'LoadImageFromFile', 'OpenImage'),
    'crop_resize': ('RandomResizedCrop',),
    'flip': ('RandomFlip',),
    'rand_augment': ('RandAugment',),
    'colour': ('ColorJitter',),
    'erasing': ('RandomErasing',),
    'pack': ('PackInputs',),
}


def write_photos(folder: Path, size: tuple[int, int], number: int) -> list[str]:
    """Write JPEG files of noise whose amplitude is proportional to its scale."""
    width, height = size
    paths = []
    for index in range(number):
        rng = np.random.default_rng(index)
        pixels = np.full((height, width, 3), 128.0, np.float32)
        scale = max(size)
        while scale >= 1:
            shape = (max(height // scale, 1) + 1, max(width // scale, 1) + 1, 3)
            noise = rng.normal(0, 10 * scale**0.25, shape).astype(np.float32)
            pixels += cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
            scale //= 2
        path = folder / f'{width}x{height}_{index}.jpg'
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(str(path))
    return paths


class TimedTransform:
    """A transform that adds its processor time to a stage.

    Args:
        transform: the transform.
        seconds: stage -> time, of the pipeline.
    """

    def __init__(self, transform, seconds: dict[str, float]) -> None:
        self.transform = transform
        self.seconds = seconds
        name = type(transform).__name__
        (self.stage,) = (stage for stage, names in STAGES.items() if name in names)

    def __call__(self, *args, **kwargs):
        """Transform the results."""
        return self.timed(self.transform)(*args, **kwargs)

    def __getattr__(self, name: str):
        """Return what else the transform has, such as ``draw_crop``; methods are timed, too."""
        value = getattr(self.transform, name)
        return self.timed(value) if callable(value) else value

    def timed(self, function: Callable) -> Callable:
        """Return the function, which adds its time."""

        def call(*args, **kwargs):
            start = time.process_time()
            value = function(*args, **kwargs)
            self.seconds[self.stage] += time.process_time() - start
            return value

        return call


class TimedPipeline:
    """A training pipeline that adds up the processor time of its transforms by stage.

    Args:
        pipeline: configs of the transforms; those of copies are timed one by one.
    """

    def __init__(self, pipeline: list[dict]) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.transforms = []
        for settings in pipeline:
            transform = TRANSFORMS.build(settings)
            if isinstance(transform, MultiResolution):
                for name in ('pipelines', 'copy_pipelines'):
                    for copy in getattr(transform, name, {}).values():
                        copy.transforms = [TimedTransform(step, self.seconds) for step in copy.transforms]
            else:
                timed = TimedTransform(transform, self.seconds)
                if isinstance(transform, OpenImage):  # which MultiResolution makes decode
                    transform.decode = timed.timed(transform.decode)
                transform = timed
            self.transforms.append(transform)

    def __call__(self, path: str) -> None:
        """Process an image."""
        results = dict(img_path=path, gt_label=0)
        for transform in self.transforms:
            results = transform(results)


def make_pipelines() -> dict[str, TimedPipeline]:
    """Return the pipelines by name, the first at one resolution, the last that of mmpretrain."""
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(CONFIG)
    load, copies, pack = cfg.train_dataloader.dataset.pipeline
    plain = [step for step in copies.transforms if not step['type'].endswith('ColorJitter')]
    *shared, erasing = copies.transforms
    variants = {
        '224': dict(copies, resolutions=[224]),
        '224 160': dict(copies, resolutions=[224, 160]),
        '224 160 128': dict(copies, resolutions=[224, 160, 128]),
        '224 160 128, shared draws': dict(
            copies,
            type='resformer_mm.DownscaledCopies',
            resolutions=[224, 160, 128],
            transforms=shared,
            copy_transforms=[erasing],
        ),
        '224, no colour jitter': dict(copies, resolutions=[224], transforms=plain),
        '224 160 128, no colour jitter': dict(copies, resolutions=[224, 160, 128], transforms=plain),
    }
    pipelines = {name: TimedPipeline([load, step, pack]) for name, step in variants.items()}
    baseline = get_config(BASELINE).train_dataloader.dataset.pipeline
    pipelines['DeiT of mmpretrain, 224'] = TimedPipeline(baseline)
    return pipelines


def measure(code: str, megapixels: str, number: int, folder: Path) -> list[dict]:
    """Return a row for every pipeline, for images of one size."""
    paths = write_photos(folder, PHOTOS[megapixels], number)
    pipelines = make_pipelines()
    for run in pipelines.values():  # imports and caches
        run(paths[0])
        run.seconds.clear()
    totals: dict[str, float] = defaultdict(float)
    names = list(pipelines)
    for index, path in enumerate(track(paths, f'{megapixels} megapixels')):
        start = index % len(names)
        for name in names[start:] + names[:start]:
            random.seed(index)
            np.random.seed(index)
            begin = time.process_time()
            pipelines[name](path)
            totals[name] += time.process_time() - begin
    return [
        {
            'code': code,
            'megapixels': megapixels,
            'pipeline': name,
            **{stage: f'{1000 * pipelines[name].seconds[stage] / number:.2f}' for stage in STAGES},
            'total_ms': f'{1000 * totals[name] / number:.1f}',
            'images_per_second': f'{number / totals[name]:.1f}',
            'of_one_resolution': f'{totals[name] / totals[names[0]]:.2f}',
            'of_mmpretrain': f'{totals[name] / totals[names[-1]]:.2f}',
            'images': number,
            'device': describe_device('cpu'),
        }
        for name in names
    ]


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the file of the rows and their name."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument(
        '--code', default='now', help='name of the rows, which replace those of this name (now)'
    )
    return parser


def measure_all(
    args: argparse.Namespace, cases: Iterable[str], measure_case: Callable[[str, Path], list[dict]]
) -> None:
    """Measure with one thread, and write the rows after every case.

    Args:
        args: of :func:`make_parser`.
        cases: what is measured.
        measure_case: takes a case and an empty folder; returns rows.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    rows = []
    if args.out.is_file():
        with open(args.out, newline='') as file:
            rows = [row for row in csv.DictReader(file) if row['code'] != args.code]
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            measured = measure_case(case, Path(folder))
        rows += measured
        for row in measured:
            print(', '.join(f'{name} {value}' for name, value in row.items()), flush=True)
        write_csv(args.out, rows)


def main() -> None:
    """Measure all sizes and write the CSV."""
    parser = make_parser(__doc__)
    parser.add_argument('--images', type=int, default=200, help='images of each size (200)')
    parser.add_argument('--megapixels', nargs='+', default=list(PHOTOS), choices=list(PHOTOS))
    args = parser.parse_args()
    measure_all(args, args.megapixels, lambda size, folder: measure(args.code, size, args.images, folder))


if __name__ == '__main__':
    main()
