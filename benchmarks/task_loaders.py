"""Processor time per sample of the training pipelines of segmentation, detection and video, by stage.

    python benchmarks/task_loaders.py --out benchmarks/results/task_loaders_cpu.csv

The images are JPEG files of the sizes of ADE20K and COCO, made as in loader.py, with a label map or eight
objects outlined by polygons; the clip is 340 x 256 pixels. The geometry is all that resizes, crops and flips;
that of clips is part of their decoding. Pipelines of images also run with the transforms of the libraries in
place of those of this package, alternating. All run in this process, with one thread. Times are means over
the samples, in milliseconds of processor time. Rows of earlier code stay in the file, under the name that
`--code` gave them.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from loader import ROOT, make_parser, measure_all, write_photos
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from resformer_mm.analysis.machine import describe_device
from resformer_mm.registry import TRANSFORMS

CONFIGS = {
    'segmentation, ADE20K': 'resformer-small_224_upernet_8xb2-80k_ade20k-512x512.py',
    'detection, COCO': 'resformer-small_224_mask-rcnn_8xb2-36e_coco.py',
    'detection, COCO with large-scale jitter': (
        'resformer-base_mr-224-160-128_mask-rcnn-lsj_8xb8-100e_coco-1024x1024.py'
    ),
    'video, Kinetics-400': 'resformer-base_224_divST_8xb8-8x32x1-15e_kinetics400-rgb.py',
}
# Names of transforms -> stage; the others resize, crop and flip.
STAGES = {
    'LoadImage': 'load',
    'LoadImageFromFile': 'load',
    'ClipInit': 'load',
    'LoadSegMap': 'annotations',
    'LoadAnnotations': 'annotations',
    'PhotoMetricDistortion': 'colour',
    'PackSegInputs': 'pack',
    'PackDetInputs': 'pack',
    'PackClips': 'pack',
    'MultiResolutionClips': 'decode',
}
COLUMNS = ('load', 'decode', 'annotations', 'geometry', 'colour', 'pack')
# What configs of the libraries have.
LIBRARY_TRANSFORMS = {
    'resformer_mm.LoadImage': dict(type='LoadImageFromFile'),
    'resformer_mm.LoadSegMap': dict(type='LoadAnnotations', reduce_zero_label=True),
    'resformer_mm.PhotoMetricDistortion': dict(type='PhotoMetricDistortion'),
}
SCOPES = {'segmentation': 'mmseg', 'detection': 'mmdet', 'video': 'mmaction'}


def segmentation_samples(folder: Path, number: int) -> Iterator[dict]:
    """Yield images of 683 x 512 pixels with a label map."""
    for index, path in enumerate(write_photos(folder, (683, 512), number)):
        labels = np.random.default_rng(index).integers(1, 151, (8, 10), np.uint8)
        labels = cv2.resize(labels, (683, 512), interpolation=cv2.INTER_NEAREST)
        mask = folder / f'{index}.png'
        Image.fromarray(labels).save(mask)
        settings = dict(reduce_zero_label=True, label_map=None, seg_fields=[])
        yield dict(img_path=path, seg_map_path=str(mask), **settings)


def detection_samples(folder: Path, number: int) -> Iterator[dict]:
    """Yield images of 640 x 480 pixels with eight ellipses as objects."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for index, path in enumerate(write_photos(folder, (640, 480), number)):
        rng = np.random.default_rng(index)
        objects = []
        for label in range(8):
            centre, radii = rng.uniform((130, 110), (510, 370)), rng.uniform(20, 110, 2)
            outline = centre + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            box = [*(centre - radii), *(centre + radii)]
            objects.append(dict(bbox=box, bbox_label=label, ignore_flag=0, mask=[outline.ravel().tolist()]))
        yield dict(img_path=path, img_id=index, height=480, width=640, instances=objects)


def video_samples(folder: Path, number: int) -> Iterator[dict]:
    """Yield a clip of 300 frames of 340 x 256 pixels, many times."""
    path = folder / 'clip.mp4'
    frames = [cv2.imread(name) for name in write_photos(folder, (340, 256), 10)]
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 30, (340, 256))
    for index in range(300):
        video.write(np.roll(frames[index // 30], 3 * index, axis=1))
    video.release()
    for _ in range(number):
        yield dict(filename=str(path), label=0, start_index=0, modality='RGB')


SAMPLES: dict[str, Callable[[Path, int], Iterator[dict]]] = {
    'segmentation': segmentation_samples,
    'detection': detection_samples,
    'video': video_samples,
}


def pipelines(task: str) -> dict[str, list]:
    """Return the transforms of a task: those of its config, and those of the library in their place."""
    library = task.split(',')[0]
    cfg = Config.fromfile(ROOT / 'configs' / library / CONFIGS[task])
    settings = cfg.train_dataloader.dataset.pipeline
    variants = {'config': settings}
    if library != 'video':
        variants['library'] = [LIBRARY_TRANSFORMS.get(step['type'], step) for step in settings]
    for step in settings:
        if step['type'] == 'resformer_mm.LoadSegMap':
            step['num_classes'] = 150  # which it takes from the data set otherwise
    with DefaultScope.overwrite_default_scope(SCOPES[library]):
        return {name: [TRANSFORMS.build(step) for step in steps] for name, steps in variants.items()}


def measure(code: str, task: str, number: int, folder: Path) -> list[dict]:
    """Return a row for every pipeline of a task."""
    samples = list(SAMPLES[task.split(',')[0]](folder, number))
    variants = pipelines(task)
    seconds: dict[str, dict[str, float]] = {name: defaultdict(float) for name in variants}
    for index, sample in enumerate([samples[0], *samples]):
        names = list(variants)
        for name in names if index % 2 else names[::-1]:
            random.seed(index)
            np.random.seed(index)
            results = dict(sample)
            for transform in variants[name]:
                start = time.process_time()
                results = transform(results)
                if index:  # the first is for imports and caches
                    stage = STAGES.get(type(transform).__name__, 'geometry')
                    seconds[name][stage] += time.process_time() - start
    totals = {name: sum(times.values()) for name, times in seconds.items()}
    library = totals.get('library')
    return [
        {
            'code': code,
            'task': task,
            'pipeline': name,
            **{stage: f'{1000 * times[stage] / number:.2f}' for stage in COLUMNS},
            'total_ms': f'{1000 * totals[name] / number:.1f}',
            'of_library': f'{totals[name] / library:.2f}' if library else '',
            'samples': number,
            'device': describe_device('cpu'),
        }
        for name, times in seconds.items()
    ]


def main() -> None:
    """Measure all tasks and write the CSV."""
    parser = make_parser(__doc__)
    parser.add_argument('--samples', type=int, default=60, help='samples of each task (60)')
    args = parser.parse_args()
    measure_all(args, CONFIGS, lambda task, folder: measure(args.code, task, args.samples, folder))


if __name__ == '__main__':
    main()
