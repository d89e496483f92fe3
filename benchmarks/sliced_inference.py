"""Memory and time of sliced inference on large images.

    python benchmarks/sliced_inference.py --out benchmarks/results/sliced_inference_cpu.csv

- label map: ResFormer-S with UPerNet, 150 classes; slices of 640 pixels at resolution 224, overlap 0.2. On
  the smaller image also the slide mode of mmsegmentation with slices of this size, which keeps the scores of
  the whole image.
- objects with masks: ResFormer-S with Mask R-CNN, slices of 1280 pixels at resolution 320, overlap 0.2. The
  weights are random, so objects of any score are taken, the best 20 of each slice and of all.

Reading the PNG file, drawing, and writing the drawing and `predictions.json` are included, as by
`tools/demo.py --out-dir`. Memory is the peak of the resident memory of a separate process, and CPU seconds
are those of all its threads, both with everything that it imports and the weights.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path

import cv2
import numpy as np
from separate_runs import run_in_subprocess, write_rows

from resformer_mm.progress import track

CONFIGS = Path(__file__).parents[1] / 'configs'
SEGMENTOR = CONFIGS / 'segmentation' / 'resformer-small_mr-224-160-128_upernet_8xb2-80k_ade20k-512x512.py'
DETECTOR = CONFIGS / 'detection' / 'resformer-small_mr-224-160-128_mask-rcnn_8xb2-36e_coco.py'
SMALLER, LARGE = (2000, 1500), (12000, 9000)
SLICE, RESOLUTION, OVERLAP = 640, 224, 0.2
OBJECT_SLICE, OBJECT_RESOLUTION, NUM_OBJECTS = 1280, 320, 20
CASES = [
    ('label map', 'mmsegmentation, slide mode', SMALLER),
    ('label map', 'slices', SMALLER),
    ('label map', 'slices', LARGE),
    ('objects with masks', 'slices', SMALLER),
    ('objects with masks', 'slices', LARGE),
]


def write_picture(path: str, size: tuple[int, int]) -> None:
    """Write a picture of smooth colours of a width and height, with some noise."""
    rng = np.random.default_rng(0)
    width, height = size
    picture = cv2.resize(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8), size)
    for top in range(0, height, 500):
        part = picture[top : top + 500]
        part += rng.integers(0, 4, part.shape, dtype=np.uint8)
    cv2.imwrite(path, picture)


def measure(case: str, variant: str, width: int, height: int) -> None:
    """Print the time and the memory of a case as JSON."""
    from resformer_mm.apis.inferencer import make_inferencer

    options: dict = {}
    keywords: dict = dict(slice=SLICE, overlap=OVERLAP, resolution=RESOLUTION)
    if case == 'objects with masks':
        keywords = dict(slice=OBJECT_SLICE, overlap=OVERLAP, resolution=OBJECT_RESOLUTION, score_thr=0.0)
        options = {'model.test_cfg.rcnn.score_thr': 0.0, 'model.test_cfg.rcnn.max_per_img': NUM_OBJECTS}
    elif variant != 'slices':
        # The picture is scaled by the pipeline, and the slices are those of the scaled picture.
        scale = RESOLUTION / SLICE
        keywords = dict(resolution=round(scale * min(width, height)))
        stride = round(RESOLUTION * (1 - OVERLAP))
        test_cfg = dict(mode='slide', crop_size=(RESOLUTION, RESOLUTION), stride=(stride, stride))
        options = {f'model.test_cfg.{name}': value for name, value in test_cfg.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/picture.png'
        write_picture(path, (width, height))
        inferencer = make_inferencer(SEGMENTOR if case == 'label map' else DETECTOR, None, 'cpu', options)
        (result,) = inferencer.stream(path, out_dir=f'{folder}/out', **keywords)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    row = dict(peak_MiB=f'{usage.ru_maxrss / 1024:.0f}', cpu_seconds=f'{usage.ru_utime + usage.ru_stime:.0f}')
    print(json.dumps({**row, 'objects': len(result.prediction.get('labels', []))}))


def main() -> None:
    """Measure every case in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument(
        '--measure', nargs=4, metavar=('CASE', 'VARIANT', 'WIDTH', 'HEIGHT'), help=argparse.SUPPRESS
    )
    args = parser.parse_args()
    if args.measure:
        case, variant, width, height = args.measure
        measure(case, variant, int(width), int(height))
        return
    rows = []
    for case, variant, (width, height) in track(CASES, 'cases'):
        found = run_in_subprocess(__file__, '--out', args.out, '--measure', case, variant, width, height)
        rows.append({'case': case, 'variant': variant, 'width': width, 'height': height, **found})
        print(rows[-1], flush=True)
        write_rows(args.out, rows, 'cpu')


if __name__ == '__main__':
    main()
