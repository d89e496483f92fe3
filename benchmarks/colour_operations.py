"""Time of the colour operations of classification, each alone, and of the transforms that draw them.

    python benchmarks/colour_operations.py --out benchmarks/results/colour_operations_cpu.csv

An operation has the strongest magnitude that the ImageNet configs draw on average. "mmpretrain" is the
operation of mmpretrain, on arrays; "torchvision" that of `torchvision.transforms.v2`, on uint8 tensors, if
it has the same one. Variants alternate on one image of 224 x 224 pixels. A transform has the settings of
the ImageNet configs and draws the same numbers in all variants. "batch" is
`model.data_preprocessor.augment` on the CPU, per image of a batch. All times are medians (of single
operations) or means (of transforms, over their draws) in microseconds, with one thread.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from resformer_mm.analysis.machine import describe_device
from resformer_mm.datasets import pixel_operations as pixels
from resformer_mm.datasets.shears import shear, translate
from resformer_mm.files import write_csv
from resformer_mm.progress import track
from resformer_mm.registry import TRANSFORMS
from resformer_mm.tasks.classification.batch_augment import BatchAugment

# isort: split
import mmcv
import mmseg.datasets  # noqa: F401  (registers its transforms)
from torchvision.transforms.v2 import functional as torchvision

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs/classification/resformer-small_mr-224-160-128_8xb128-300e_in1k.py'
DEVICE_CONFIG = CONFIG.with_name(CONFIG.name.replace('128_8x', '128_device-augment_8x'))
FILL = (104, 116, 124)
BORDER = dict(border_value=FILL, interpolation='bicubic')

Variants = dict[str, Callable[[], object]]


def photo(size: int) -> np.ndarray:
    """Return noise of all scales, as photos have."""
    rng = np.random.default_rng(0)
    image = np.full((size, size, 3), 128.0, np.float32)
    for scale in (size, size // 4, size // 16, size // 64, 1):
        cells = rng.normal(0, 10 * scale**0.25, (size // scale + 1, size // scale + 1, 3))
        image += cv2.resize(cells.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


# Of mmpretrain, on an image; of torchvision, on a tensor, or None; of this package, on an image.
Functions = tuple[Callable, Callable | None, Callable]

JITTER: dict[str, Functions] = {
    'brightness (jitter)': (
        lambda image: mmcv.adjust_brightness(image, 1.2, backend='pillow'),
        lambda tensor: torchvision.adjust_brightness(tensor, 1.2),
        lambda image: pixels.adjust_brightness(image, 1.2),
    ),
    'contrast (jitter)': (
        lambda image: mmcv.adjust_contrast(image, 1.2, backend='pillow'),
        lambda tensor: torchvision.adjust_contrast(tensor, 1.2),
        lambda image: pixels.adjust_contrast(image, 1.2),
    ),
    'saturation (jitter)': (
        lambda image: mmcv.adjust_color(image, 1.2, backend='pillow'),
        lambda tensor: torchvision.adjust_saturation(tensor, 1.2),
        lambda image: pixels.adjust_saturation(image, 1.2),
    ),
    'hue (jitter)': (
        lambda image: mmcv.adjust_hue(image, 0.1, backend='pillow'),
        lambda tensor: torchvision.adjust_hue(tensor, 0.1),
        lambda image: pixels.adjust_hue(image, 0.1),
    ),
}
COLOURS: dict[str, Functions] = {
    'auto contrast': (mmcv.auto_contrast, torchvision.autocontrast, pixels.auto_contrast),
    'equalize': (mmcv.imequalize, torchvision.equalize, pixels.equalize),
    'invert': (mmcv.iminvert, torchvision.invert, pixels.invert),
    'posterize': (
        lambda image: mmcv.posterize(image, 1),
        lambda tensor: torchvision.posterize(tensor, 1),
        lambda image: pixels.posterize(image, 1),
    ),
    'solarize': (
        lambda image: mmcv.solarize(image, 25.6),
        lambda tensor: torchvision.solarize(tensor, 26),
        lambda image: pixels.solarize(image, 25.6),
    ),
    'solarize, add': (
        lambda image: np.where(image < 128, np.minimum(image + 99.0, 255), image).astype(np.uint8),
        None,
        lambda image: pixels.solarize_add(image, 99.0, 128),
    ),
    'brightness': (
        lambda image: mmcv.adjust_brightness(image, 1.81),
        lambda tensor: torchvision.adjust_brightness(tensor, 1.81),
        lambda image: pixels.adjust_brightness(image, 1.81),
    ),
    'contrast': (
        lambda image: mmcv.adjust_contrast(image, 1.81),
        lambda tensor: torchvision.adjust_contrast(tensor, 1.81),
        lambda image: pixels.adjust_contrast(image, 1.81),
    ),
    'saturation': (
        lambda image: mmcv.adjust_color(image, 1.81),
        lambda tensor: torchvision.adjust_saturation(tensor, 1.81),
        lambda image: pixels.adjust_saturation(image, 1.81, cut_off=False),
    ),
    'sharpness': (
        lambda image: mmcv.adjust_sharpness(image, 1.81),
        lambda tensor: torchvision.adjust_sharpness(tensor, 1.81),
        lambda image: pixels.adjust_sharpness(image, 1.81),
    ),
}
# On tensors, torchvision has no bicubic interpolation for these.
PLACES: dict[str, Functions] = {
    'rotate': (
        lambda image: mmcv.imrotate(image, 27.0, **BORDER),
        None,
        lambda image: mmcv.imrotate(image, 27.0, **BORDER),
    ),
    'shear, horizontal': (
        lambda image: mmcv.imshear(image, 0.27, 'horizontal', **BORDER),
        None,
        lambda image: shear(image, 0.27, 'horizontal', FILL),
    ),
    'translate, horizontal': (
        lambda image: mmcv.imtranslate(image, 90.72, 'horizontal', **BORDER),
        None,
        lambda image: translate(image, 90.72, 'horizontal', FILL),
    ),
    'shear, vertical': (
        lambda image: mmcv.imshear(image, 0.27, 'vertical', **BORDER),
        None,
        lambda image: shear(image, 0.27, 'vertical', FILL),
    ),
    'translate, vertical': (
        lambda image: mmcv.imtranslate(image, 90.72, 'vertical', **BORDER),
        None,
        lambda image: translate(image, 90.72, 'vertical', FILL),
    ),
}


def operations(image: np.ndarray) -> dict[str, Variants]:
    """Return the variants of every operation."""
    tensor = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1).contiguous()
    inputs = {'mmpretrain': image, 'torchvision': tensor, 'now': image}
    return {
        operation: {
            name: partial(function, inputs[name])
            for name, function in zip(inputs, functions)
            if function is not None
        }
        for operation, functions in {**JITTER, **COLOURS, **PLACES}.items()
    }


def medians(variants: Variants, repeats: int) -> dict[str, float]:
    """Return the median time in microseconds of variants that alternate."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats + 3):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            if repeat >= 3:
                times[name].append(time.perf_counter() - start)
    return {name: 1e6 * float(np.median(values)) for name, values in times.items()}


def means(library: str, settings: dict, size: int, draws: int) -> dict[str, float]:
    """Return the mean time in microseconds of the transform of a library and of ours for the same draws."""
    names = {'mmpretrain': f'{library}.{settings["type"].partition(".")[2]}', 'now': settings['type']}
    variants = {variant: TRANSFORMS.build(dict(settings, type=name)) for variant, name in names.items()}
    seconds, image = dict.fromkeys(variants, 0.0), photo(size)
    for seed in range(-3, draws):
        for variant, transform in variants.items():
            np.random.seed(abs(seed))
            results = dict(img=image.copy())
            start = time.perf_counter()
            transform(results)
            seconds[variant] += (time.perf_counter() - start) * (seed >= 0)
    return {variant: 1e6 * total / draws for variant, total in seconds.items()}


def transforms(size: int, draws: int) -> dict[str, dict[str, float]]:
    """Return the times of the transforms of the ImageNet configs."""
    pipeline = Config.fromfile(CONFIG).train_dataloader.dataset.pipeline
    return {
        f'{settings.type.partition(".")[2]}, {size}': means('mmpretrain', settings, size, draws)
        for settings in pipeline[1].transforms[2:]
    }


def distortion(size: int, draws: int) -> dict[str, dict[str, float]]:
    """Return the times of the distortion of the segmentation configs and, as mmpretrain's, of mmseg's."""
    settings = dict(type='resformer_mm.PhotoMetricDistortion')
    return {f'PhotoMetricDistortion of mmseg, {size}': means('mmseg', settings, size, draws)}


def batches(size: int, number: int, repeats: int) -> dict[str, dict[str, float]]:
    """Return the time of an image in microseconds of jitter and erasing of a batch on the CPU."""
    settings = Config.fromfile(DEVICE_CONFIG).model.data_preprocessor.augment
    images = [torch.from_numpy(photo(size)).permute(2, 0, 1).expand(number, -1, -1, -1).contiguous()]
    found = {}
    for field, name in (('color_jitter', 'ColorJitter'), ('erasing', 'RandomErasing')):
        augment = BatchAugment(**{field: settings[field]})
        taken = medians({'now': lambda augment=augment: augment(images)}, repeats)
        found[f'{name}, batch of {number} on the CPU, {size}'] = {'now': taken['now'] / number}
    return found


def main() -> None:
    """Measure everything and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument('--repeats', type=int, default=100, help='runs of each operation (100)')
    parser.add_argument('--draws', type=int, default=1000, help='images of each transform (1000)')
    args = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    init_default_scope('mmpretrain')
    found = {}
    for name, variants in track(list(operations(photo(224)).items()), 'operations'):
        found[name] = medians(variants, args.repeats)
    for size in track([224, 160, 128], 'transforms'):
        found.update(transforms(size, args.draws))
    found.update(distortion(512, args.draws // 5))
    for number in (8, 128):
        found.update(batches(224, number, max(args.repeats // 10, 1)))
    rows = []
    for name, taken in found.items():
        row = {'operation': name}
        for variant in ('mmpretrain', 'torchvision', 'now'):
            row[variant] = f'{taken[variant]:.0f}' if variant in taken else ''
        row['of_mmpretrain'] = f'{taken["now"] / taken["mmpretrain"]:.2f}' if 'mmpretrain' in taken else ''
        rows.append({**row, 'unit': 'microseconds', 'device': describe_device('cpu')})
    write_csv(args.out, rows)
    for row in rows:
        print(', '.join(f'{name} {value}' for name, value in row.items()))


if __name__ == '__main__':
    main()
