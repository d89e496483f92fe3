"""Training steps and inference of the small detector and segmentor next to those of mmdet and mmseg.

    python benchmarks/dense_steps.py --task detection --vitdet MMDETECTION \\
        --before CHECKOUT --out benchmarks/results/dense_detection_cpu.csv
    python benchmarks/dense_steps.py --task segmentation --before CHECKOUT \\
        --out benchmarks/results/dense_segmentation_cpu.csv
    python benchmarks/dense_steps.py --task backbone --before CHECKOUT \\
        --out benchmarks/results/dense_backbone_cpu.csv

MMDETECTION is a checkout of mmdetection 3.3, whose projects/ViTDet the package of mmdet does not contain;
CHECKOUT is one of this repository at an earlier commit. Random weights, random images with ten objects or
labels of 150 classes.

- detection: Mask R-CNN with the heads of this project and 80 classes. The ViTDet of mmdet has the width and
  the windows of the small model, relative positions, its own pyramid, and its own layer norm in the heads.
- segmentation: UPerNet with 150 classes; the DeiT-S of mmseg is its vit_deit-s16 config.
- backbone: forward and backward of the backbone and the pyramid of the detector alone.

A step is data preprocessor, forward, backward and AdamW. Each model runs in a process of its own, and the
models alternate. Every process runs each case once before it is measured. Times are CPU seconds over all
threads, which other work on the machine affects less than the clock. The ratio is the median over the rounds
of (model / first model), below 1 where it is faster. Allocated memory is that of one more step, with
--memory instead of times: the peak of PyTorch's allocator without the weights.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from dense_batches import detection_batch, segmentation_batch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from torch import nn

from resformer_mm.analysis.machine import describe_device
from resformer_mm.analysis.memory import peak_memory
from resformer_mm.apis import load_model
from resformer_mm.config.files import read_config
from resformer_mm.files import write_csv
from resformer_mm.progress import track

FOLDER = Path(__file__).resolve().parents[1] / 'configs'
DETECTOR = FOLDER / 'detection/resformer-small_mr-224-160-128_mask-rcnn_8xb2-36e_coco.py'
CONFIGS = {
    'detection': DETECTOR,
    'segmentation': FOLDER / 'segmentation/resformer-small_mr-224-160-128_upernet_8xb2-80k_ade20k-512x512.py',
    'backbone': DETECTOR,
}
VITDET, DEIT = 'ViTDet of mmdet', 'DeiT of mmseg'
BASELINES = {'detection': VITDET, 'segmentation': DEIT, 'backbone': VITDET}
Sizes = tuple[tuple[int, int], ...]
# Windows of 14 tokens divide 448 x 672 pixels, but not 480 x 640; in the last case one image is padded.
CASES: dict[str, dict[str, Sizes]] = {
    'detection': {
        'inference': ((480, 640),),
        'training': ((480, 640), (480, 640)),
        'training, one image padded': ((480, 640), (384, 512)),
    },
    'segmentation': {'inference': ((512, 512),), 'training': ((512, 512),) * 2},
    'backbone': {
        'divided by windows': ((448, 672), (448, 672)),
        'not divided': ((480, 640), (480, 640)),
        'one image padded': ((480, 640), (384, 512)),
        'inference, not divided': ((480, 640),),
    },
}
LN2D = dict(type='LN2d', requires_grad=True)


def options(task: str, name: str) -> dict:
    """Return the changes of the config for a model."""
    changes: dict = {'model.backbone.init_cfg': None}
    if name == DEIT:
        backbone = dict(
            type='mmseg.VisionTransformer',
            img_size=(512, 512),
            embed_dims=384,
            num_heads=6,
            out_indices=(2, 5, 8, 11),
            drop_path_rate=0.1,
            interpolate_mode='bicubic',
            _delete_=True,
        )
        changes = {'model.backbone': backbone}
    elif name == VITDET:
        backbone = dict(
            type='mmdet.ViT',
            img_size=1024,
            embed_dim=384,
            num_heads=6,
            drop_path_rate=0.1,
            window_size=14,
            use_rel_pos=True,
            _delete_=True,
        )
        neck = dict(
            type='mmdet.SimpleFPN',
            backbone_channel=384,
            in_channels=[96, 192, 384, 384],
            out_channels=256,
            num_outs=5,
            norm_cfg=LN2D,
            _delete_=True,
        )
        changes = {
            'model.type': 'mmdet.MaskRCNN',
            'model.backbone': backbone,
            'model.neck': neck,
            'model.roi_head.bbox_head.norm_cfg': LN2D,
            'model.roi_head.mask_head.norm_cfg': LN2D,
            # The rates of this project's detectors follow the depth of a layer, which ViTDet does not tell.
            'optim_wrapper.constructor': 'resformer_mm.MergedGroupsOptimWrapperConstructor',
            'optim_wrapper.paramwise_cfg': dict(norm_decay_mult=0.0, bias_decay_mult=0.0, _delete_=True),
        }
    return changes


def make_model(task: str, name: str, **changes: object) -> tuple[nn.Module, object]:
    """Return a new model and its optimiser wrapper."""
    if name == VITDET:
        from projects.ViTDet import vitdet  # noqa: F401  registers the modules
    torch.manual_seed(0)
    cfg = read_config(CONFIGS[task], {**options(task, name), **changes})
    model = load_model(cfg, device='cpu')
    MMLogger.get_current_instance().setLevel('WARNING')  # else a line for every parameter
    return model, build_optim_wrapper(model, cfg.optim_wrapper)


def make_batch(task: str, sizes: Sizes) -> dict:
    """Return a batch as the pipeline packs it."""
    return segmentation_batch(len(sizes), sizes[0]) if task == 'segmentation' else detection_batch(sizes)


def make_call(task: str, model: nn.Module, wrapper, case: str, sizes: Sizes) -> Callable[[], None]:
    """Return what is measured in a case."""
    batch = make_batch(task, sizes)
    images = torch.randn(len(sizes), 3, *(max(sides) for sides in zip(*sizes)))

    def features() -> tuple:
        if hasattr(model, 'masks_padding'):
            with model._sizes_of([sample for sample in batch['data_samples']]):
                return model.extract_feat(images)
        return model.extract_feat(images)

    def call() -> None:
        is_inference = case.startswith('inference')
        model.train(not is_inference)
        torch.manual_seed(0)  # so that the losses sample the same proposals
        with torch.set_grad_enabled(not is_inference):
            if task == 'backbone':
                levels = features()
                if not is_inference:
                    sum(level.square().mean() for level in levels).backward()
                    model.zero_grad(set_to_none=True)
            elif is_inference:
                model.test_step(make_batch(task, sizes))
            else:
                model.train_step(make_batch(task, sizes), wrapper)

    return call


def run(task: str, name: str, only: list[str], repeats: int, memory: bool) -> dict[str, dict[str, float]]:
    """Measure a model in this process."""
    model, wrapper = make_model(task, name)
    results = {}
    for case, sizes in CASES[task].items():
        if only and case not in only:
            continue
        call = make_call(task, model, wrapper, case, sizes)
        if memory:
            results[case] = {'allocated_MiB': peak_memory(call, 'cpu') / 2**20}
            continue
        call()
        times, cpu_times = [], []
        for _ in range(repeats):
            start, cpu_start = time.perf_counter(), time.process_time()
            call()
            times.append(time.perf_counter() - start)
            cpu_times.append(time.process_time() - cpu_start)
        results[case] = {
            'seconds': statistics.median(times),
            'cpu_seconds': statistics.median(cpu_times),
        }
    return results


def run_apart(name: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure a model in a new process, with the package of another checkout where that is asked for."""
    roots = [str(args.before)] if name == 'before' else [str(FOLDER.parent)]
    if args.vitdet:
        roots.append(str(args.vitdet))
    command = [sys.executable, __file__, '--task', args.task, '--model', name, '--repeats', str(args.repeats)]
    command += ['--case', *args.case] if args.case else []
    command += ['--memory'] if args.memory else []
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(roots)}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return json.loads(output.strip().splitlines()[-1])


def table(args: argparse.Namespace, found: dict[str, list[dict[str, dict[str, float]]]]) -> list[dict]:
    """Return the rows of the CSV file."""
    rows = []
    key, decimals = ('allocated_MiB', 0) if args.memory else ('cpu_seconds', 2)
    first = next(iter(found))
    for case in found[first][0]:
        for name, results in found.items():
            values = [result[case][key] for result in results]
            ratios = [value / result[case][key] for value, result in zip(values, found[first])]
            rows.append(
                {
                    'task': args.task,
                    'case': case,
                    'images': ', '.join(f'{height} x {width}' for height, width in CASES[args.task][case]),
                    'model': name,
                    key: f'{statistics.median(values):.{decimals}f}',
                    'min': f'{min(values):.{decimals}f}',
                    'max': f'{max(values):.{decimals}f}',
                    **({} if args.memory else {'seconds': _median_seconds(results, case)}),
                    'ratio': f'{statistics.median(ratios):.3f}',
                    'rounds': len(values),
                    'device': describe_device('cpu'),
                    'threads': torch.get_num_threads(),
                    'dtype': 'float32',
                    'torch': torch.__version__,
                }
            )
    return rows


def _median_seconds(results: list[dict[str, dict[str, float]]], case: str) -> str:
    return f'{statistics.median(result[case]["seconds"] for result in results):.2f}'


def main() -> None:
    """Run the models alternately in new processes, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--task', choices=list(CONFIGS), required=True)
    parser.add_argument('--out', type=Path, help='CSV file')
    parser.add_argument('--vitdet', type=Path, help='checkout of mmdetection, for its ViTDet')
    parser.add_argument('--before', type=Path, help='checkout of this repository at an earlier commit')
    parser.add_argument('--case', nargs='+', default=[], help='these cases alone')
    parser.add_argument('--rounds', type=int, default=2)
    parser.add_argument('--repeats', type=int, default=1, help='measurements per process')
    parser.add_argument('--memory', action='store_true', help='measure memory, not time')
    parser.add_argument('--model', help='run this model alone in this process; print the result')
    args = parser.parse_args()
    if args.model:
        print(json.dumps(run(args.task, args.model, args.case, args.repeats, args.memory)))
        return
    if args.out is None:
        parser.error('--out is required')
    names = [BASELINES[args.task]] if args.task == 'segmentation' or args.vitdet else []
    names += [*(['before'] if args.before else []), 'now']
    found: dict[str, list] = {name: [] for name in names}
    for turn in track(range(args.rounds), 'rounds'):
        for name in names[:: -1 if turn % 2 else 1]:
            found[name].append(run_apart(name, args))
            print(name, found[name][-1], flush=True)
    write_csv(args.out, table(args, found))


if __name__ == '__main__':
    main()
