"""Time and memory of drawn predictions: large videos, label maps and many masks.

    python benchmarks/drawing_memory_speed.py --out benchmarks/results/drawing_memory_speed_cpu.csv

- label map: ResFormer-S with UPerNet on an image of 1280 x 720 pixels, 150 classes: the forward pass, the
  drawing of mmsegmentation and that of this package.
- masks: 100 objects in an image of 6000 x 4000 pixels: pasted, encoded and drawn by mmdetection and by this
  package.
- video: frames of 1280 x 720 pixels, predicted and written as by `tools/demo.py`. Memory must not grow with
  their number.

Memory is the peak of the resident memory of a separate process, minus that before the measurement.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from separate_runs import run_in_subprocess, write_rows

from resformer_mm.progress import track

CONFIGS = Path(__file__).parents[1] / 'configs' / 'segmentation'
SMALL = CONFIGS / 'resformer-small_mr-224-160-128_upernet_8xb2-80k_ade20k-512x512.py'
MINI = CONFIGS / 'resformer-mini_upernet_1xb8-900_mini.py'
WIDTH, HEIGHT = 1280, 720
LARGE_WIDTH, LARGE_HEIGHT, NUM_OBJECTS = 6000, 4000, 100
REPEATS = 5
CASES = {
    'label map': ('forward pass', 'mmsegmentation', 'this package'),
    'masks': ('mmdetection', 'this package'),
    'video': (25, 100),
}


def seconds_of(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the median time of a call, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def label_map(variant: str) -> float:
    """Return the seconds of a forward pass or of a drawing."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    from mmseg.visualization import SegLocalVisualizer

    from resformer_mm.apis.inferencer import make_inferencer

    inferencer = make_inferencer(SMALL, None, 'cpu')
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8), (WIDTH, HEIGHT))
    if variant == 'forward pass':
        return float(np.median([inferencer(image)['forward_ms'] for _ in range(REPEATS)])) / 1000
    coarse = rng.integers(0, 150, (6, 8), dtype=np.uint8)
    labels = torch.from_numpy(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)).long()
    sample = SegDataSample(pred_sem_seg=PixelData(data=labels[None]))
    if variant == 'this package':
        return seconds_of(lambda: inferencer.draw(image, sample))
    visualizer = SegLocalVisualizer(name='library')
    visualizer.dataset_meta = inferencer.visualizer.dataset_meta

    def draw() -> np.ndarray:
        visualizer.add_datasample('', image[..., ::-1], sample, draw_gt=False)
        return visualizer.get_image()

    return seconds_of(draw, 1)


def masks(variant: str) -> float:
    """Return the seconds of pasting, encoding and drawing."""
    from contextlib import nullcontext

    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    from mmdet.structures import DetDataSample
    from mmdet.visualization import DetLocalVisualizer
    from mmengine.config import ConfigDict
    from mmengine.structures import InstanceData

    from resformer_mm.tasks.detection.compact_masks import encode_masks, masks_one_by_one
    from resformer_mm.tasks.detection.visualizer import ObjectVisualizer

    torch.manual_seed(0)
    head = FCNMaskHead(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=80)
    corners = torch.rand(NUM_OBJECTS, 2) * torch.tensor([0.7 * LARGE_WIDTH, 0.7 * LARGE_HEIGHT])
    found = InstanceData(bboxes=torch.cat([corners, corners + 200 + 1000 * torch.rand(NUM_OBJECTS, 2)], 1))
    found.labels = torch.arange(NUM_OBJECTS) % 80
    found.scores = torch.linspace(1, 0.4, NUM_OBJECTS)
    meta = dict(scale_factor=(1.0, 1.0), ori_shape=(LARGE_HEIGHT, LARGE_WIDTH))
    logits = torch.nn.functional.interpolate(torch.randn(NUM_OBJECTS, 80, 4, 4), 28, mode='bilinear')
    image = np.full((LARGE_HEIGHT, LARGE_WIDTH, 3), 100, np.uint8)
    config = ConfigDict(mask_thr_binary=0.5)
    is_own = variant == 'this package'
    start = time.perf_counter()
    with masks_one_by_one(head) if is_own else nullcontext():
        (found,) = head.predict_by_feat((logits,), [found], [meta], config, rescale=True)
    found = found[found.scores >= 0.3]
    if is_own:
        ObjectVisualizer(name='own').draw_objects(image, found, None, None)
    else:
        visualizer = DetLocalVisualizer(name='library')
        sample = DetDataSample(pred_instances=found)
        visualizer.add_datasample('', image, sample, draw_gt=False, pred_score_thr=-1)
        visualizer.get_image()
        encode_masks(found)
    return time.perf_counter() - start


def video(num_frames: int) -> float:
    """Return the seconds per frame of the predictions and drawings."""
    from resformer_mm.apis.inferencer import make_inferencer
    from resformer_mm.apis.reporting import describe_predictions

    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/video.avi'
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*'MJPG'), 25, (WIDTH, HEIGHT))
        frame = cv2.resize(
            np.random.default_rng(0).integers(0, 256, (9, 16, 3), dtype=np.uint8), (WIDTH, HEIGHT)
        )
        for number in range(num_frames):
            writer.write(np.roll(frame, 5 * number, axis=1))
        writer.release()
        inferencer = make_inferencer(MINI, None, 'cpu')
        start = time.perf_counter()
        result = describe_predictions(inferencer, path, out_dir=f'{folder}/out')
        assert len(result['predictions']) == num_frames
        return (time.perf_counter() - start) / num_frames


def measure(case: str, variant: str) -> None:
    """Print the time and the memory of a case as JSON."""
    import resformer_mm.apis.inferencer  # noqa: F401  what is imported does not count
    import resformer_mm.tasks.detection.inferencer
    import resformer_mm.tasks.segmentation.inferencer  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    functions = {'label map': label_map, 'masks': masks, 'video': lambda number: video(int(number))}
    seconds = functions[case](variant)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({'seconds': f'{seconds:.3f}', 'peak_MiB': f'{peak:.0f}'}))


def main() -> None:
    """Measure every case in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument('--measure', nargs=2, metavar=('CASE', 'VARIANT'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure)
        return
    rows = []
    cases = [(case, variant) for case, variants in CASES.items() for variant in variants]
    for case, variant in track(cases, 'cases'):
        found = run_in_subprocess(__file__, '--out', args.out, '--measure', case, variant)
        name = f'{variant} frames' if case == 'video' else variant
        rows.append({'case': case, 'variant': name, **found})
        print(rows[-1])
    write_rows(args.out, rows, 'cpu')


if __name__ == '__main__':
    main()
