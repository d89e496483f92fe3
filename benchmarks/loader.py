"""Processor time per sample of the training pipeline of ImageNet configs, by stage and resolution.

    python benchmarks/loader.py --out benchmarks/results/loader_cpu.csv

The images are JPEG files of 0.2, 1, 4 and 12 megapixels, made by this script: noise of all scales, as photos
have. The pipelines are those of this package at one, two and three resolutions, and that of mmpretrain's
DeiT, which has no colour jitter. All run in this process, with one thread, as in a worker of a data loader.
Every image passes all pipelines in a rotating order. Times are means over the images, in milliseconds of
processor time, because the random draws decide what an image costs; the ratios are those of the totals. Rows
of earlier code stay in the file, under the name that `--code` gave them.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from PIL import Image

from resformer_mm.analysis.machine import describe_device
from resformer_mm.files import write_csv
from resformer_mm.progress import track
from resformer_mm.registry import TRANSFORMS

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs/classification/resformer-small_mr-224-160-128_8xb128-300e_in1k.py'
BASELINE = 'mmpretrain::deit/deit-small_4xb256_in1k.py'
PHOTOS = {'0.2': (500, 375), '1': (1152, 864), '4': (2304, 1728), '12': (4000, 3000)}  # megapixels
# Stage -> names of transforms.
STAGES = {
    'decode': ('LoadImage', 'LoadImageFromFile'),
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


class TimedPipeline:
    """A training pipeline that adds up the processor time of its transforms by stage.

    Args:
        pipeline: configs of the transforms; a ``MultiResolution`` is taken apart.
        resolutions: resolutions of the copies; empty for a pipeline without copies.
    """

    def __init__(self, pipeline: list[dict], resolutions: list[int]) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        transforms = [TRANSFORMS.build(settings) for settings in pipeline]
        self.load, *rest, self.pack = transforms
        if resolutions:
            (copies,) = rest
            self.copies = [copies.pipelines[resolution].transforms for resolution in resolutions]
        else:
            self.copies = [rest]

    def __call__(self, path: str) -> None:
        """Process an image."""
        loaded = self._timed(self.load, dict(img_path=path, gt_label=0))
        copies = []
        for transforms in self.copies:
            results = {**loaded, 'img': loaded['img'].copy()}
            for transform in transforms:
                results = self._timed(transform, results)
            copies.append(results)
        image = [results['img'] for results in copies] if len(copies) > 1 else copies[0]['img']
        self._timed(self.pack, {**copies[0], 'img': image})

    def _timed(self, transform, results: dict) -> dict:
        name = type(transform).__name__
        (stage,) = (stage for stage, names in STAGES.items() if name in names)
        start = time.process_time()
        results = transform(results)
        self.seconds[stage] += time.process_time() - start
        return results


def make_pipelines() -> dict[str, TimedPipeline]:
    """Return the pipelines by name."""
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(CONFIG)
    load, copies, pack = cfg.train_dataloader.dataset.pipeline
    pipelines = {}
    for resolutions in ([224], [224, 160], [224, 160, 128]):
        settings = [load, {**copies, 'resolutions': resolutions}, pack]
        pipelines[' '.join(map(str, resolutions))] = TimedPipeline(settings, resolutions)
    baseline = get_config(BASELINE).train_dataloader.dataset.pipeline
    pipelines['DeiT of mmpretrain, 224'] = TimedPipeline(baseline, [])
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
        for name in names[index % 4 :] + names[: index % 4]:
            random.seed(index)
            np.random.seed(index)
            start = time.process_time()
            pipelines[name](path)
            totals[name] += time.process_time() - start
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


def main() -> None:
    """Measure all sizes and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument(
        '--code', default='now', help='name of the rows, which replace those of this name (now)'
    )
    parser.add_argument('--images', type=int, default=200, help='images of each size (200)')
    parser.add_argument('--megapixels', nargs='+', default=list(PHOTOS), choices=list(PHOTOS))
    args = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    rows = []
    if args.out.is_file():
        with open(args.out, newline='') as file:
            rows = [row for row in csv.DictReader(file) if row['code'] != args.code]
    for megapixels in args.megapixels:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(args.code, megapixels, args.images, Path(folder))
        for row in rows[-4:]:
            print(', '.join(f'{name} {value}' for name, value in row.items()), flush=True)
        write_csv(args.out, rows)


if __name__ == '__main__':
    main()
