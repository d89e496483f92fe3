"""Where the time of a training step of a detector and of a segmentor goes, by part of the model.

    python benchmarks/dense_shares.py --out benchmarks/results/dense_shares_cpu.csv

The small Mask R-CNN and UPerNet of the configs with random weights, two images of the given sizes, float32:
data preprocessor, forward, backward and AdamW as the config builds it. PyTorch's profiler records one step
after a warm-up. The self time of every operator counts for the innermost part that calls it; an operator of
the backward pass counts for the part whose forward operator it belongs to.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from dense_steps import make_batch, make_model
from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from resformer_mm.analysis.machine import describe_device
from resformer_mm.compat.kineto import without_profiler_announcements
from resformer_mm.files import write_csv
from resformer_mm.models.layers import WindowAttention

TASKS = ['detection', 'segmentation']
MARK = 'part: '
FORWARD, BACKWARD = 0, 1


def backbone_parts(backbone: nn.Module) -> Iterator[tuple[str, Any, str]]:
    """Yield name, object and method of the parts of a backbone."""
    yield 'backbone, other', backbone, 'forward'
    yield 'patch embedding', backbone.patch_embed, 'forward'
    yield 'GPE', backbone.global_position, 'forward'
    for block in backbone.blocks:
        kind = 'attention in windows' if isinstance(block.attn, WindowAttention) else 'global attention'
        yield kind, block.attn, '_mix'
        for name in ('qkv', 'proj'):
            yield 'projections of attention', getattr(block.attn, name), 'forward'
        yield 'LPE', block.attn.local_position, 'forward'
        yield 'LPE', block.attn.local_position, 'term_of_batch'
        yield 'MLP', block.mlp, 'forward'
        for name in ('norm1', 'norm2'):
            yield 'norms of blocks', getattr(block, name), 'forward'


def detector_parts(model: nn.Module) -> Iterator[tuple[str, Any, str]]:
    """Yield name, object and method of the parts of a Mask R-CNN."""
    yield from backbone_parts(model.backbone)
    yield 'pyramid', model.neck, 'forward'
    rpn, roi = model.rpn_head, model.roi_head
    yield 'RPN', rpn, 'forward'
    yield 'RPN, losses', rpn, 'loss_by_feat'
    yield 'RPN, proposals', rpn, 'predict_by_feat'
    yield 'RoI heads, other', roi, 'loss'
    yield 'RoIAlign', roi.bbox_roi_extractor, 'forward'
    yield 'RoIAlign', roi.mask_roi_extractor, 'forward'
    yield 'box head', roi.bbox_head, 'forward'
    yield 'mask head', roi.mask_head, 'forward'
    yield 'losses of RoI heads', roi.bbox_head, 'loss_and_target'
    yield 'losses of RoI heads', roi.mask_head, 'loss_and_target'


def segmentor_parts(model: nn.Module) -> Iterator[tuple[str, Any, str]]:
    """Yield name, object and method of the parts of an UPerNet."""
    yield from backbone_parts(model.backbone)
    yield 'UPerHead', model.decode_head, 'forward'
    yield 'FCNHead', model.auxiliary_head, 'forward'
    yield 'losses', model.decode_head, 'loss_by_feat'
    yield 'losses', model.auxiliary_head, 'loss_by_feat'


def mark(part: str, owner: Any, method: str) -> None:
    """Let calls of a method be recorded as a part. Hooks would not do: blocks with hooks run another way."""
    function: Callable = getattr(owner, method)

    def marked(*args, **kwargs):
        with record_function(MARK + part):
            return function(*args, **kwargs)

    setattr(owner, method, marked)


def make_step(task: str, sizes: list[tuple[int, int]], device: str) -> Callable[[], None]:
    """Return a training step of a new model."""
    changes = {'model.data_preprocessor.size': sizes[0]} if task == 'segmentation' else {}
    model, wrapper = make_model(task, 'now', **changes)
    model.to(device).train()
    for part in detector_parts(model) if task == 'detection' else segmentor_parts(model):
        mark(*part)
    mark('data preprocessor', model.data_preprocessor, 'forward')
    mark('optimiser', wrapper, 'step')
    mark('optimiser', wrapper, 'zero_grad')

    def step() -> None:
        batch = make_batch(task, sizes)
        torch.manual_seed(0)  # so that the losses sample the same proposals
        with record_function(MARK + 'other'):
            model.train_step(batch, wrapper)

    return step


def part_of(event: FunctionEvent | None, owners: dict[tuple[int, int], str]) -> tuple[str, int] | None:
    """Return the part that an event belongs to, and whether it is of the backward pass."""
    while event is not None:
        if event.name.startswith(MARK):
            return event.name[len(MARK) :], FORWARD
        if event.scope == BACKWARD and event.sequence_nr >= 0:
            owner = owners.get((event.fwd_thread, event.sequence_nr))
            if owner is not None:
                return owner, BACKWARD
        event = event.cpu_parent
    return None


def shares(events: list[FunctionEvent]) -> dict[str, list[float]]:
    """Return the milliseconds of every part, forward and backward."""
    owners: dict[tuple[int, int], str] = {}
    for event in events:
        if not event.fwd_thread and event.sequence_nr >= 0:  # events of the backward pass name that thread
            found = part_of(event, {})
            if found is not None:
                # The innermost operator of those with one number is the last in order of their start.
                owners[event.thread, event.sequence_nr] = found[0]
    times: dict[str, list[float]] = {}
    for event in events:
        part, direction = part_of(event, owners) or ('other', BACKWARD)
        times.setdefault(part, [0.0, 0.0])[direction] += event.self_cpu_time_total / 1000
    return times


def measure(task: str, sizes: list[tuple[int, int]]) -> list[dict[str, object]]:
    """Return one row per part, the largest first."""
    step = make_step(task, sizes, 'cpu')
    step()
    with without_profiler_announcements():
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            step()
    times = shares(list(profiler.events()))
    total = sum(map(sum, times.values()))
    rows = []
    for part, (forward, backward) in sorted(times.items(), key=lambda item: -sum(item[1])):
        rows.append(
            {
                'task': task,
                'images': ', '.join(f'{height} x {width}' for height, width in sizes),
                'part': part,
                'forward_ms': round(forward, 1),
                'backward_ms': round(backward, 1),
                'percent': round(100 * (forward + backward) / total, 1),
                'device': describe_device('cpu'),
                'threads': torch.get_num_threads(),
                'dtype': 'float32',
                'torch': torch.__version__,
            }
        )
    return rows


def parse_size(text: str) -> tuple[int, int]:
    """Return height and width of ``480x640``."""
    height, width = text.split('x')
    return int(height), int(width)


def main() -> None:
    """Profile the models and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, help='CSV file')
    parser.add_argument('--task', choices=TASKS, nargs='+', default=TASKS)
    parser.add_argument(
        '--sizes',
        type=parse_size,
        nargs='+',
        default=[(480, 640), (480, 640)],
        help='height and width of the images of the detector',
    )
    parser.add_argument('--crop', type=int, default=512, help='side of the crops of the segmentor')
    args = parser.parse_args()
    rows: list[dict[str, object]] = []
    for task in args.task:
        rows += measure(task, args.sizes if task == 'detection' else [(args.crop, args.crop)] * 2)
    for row in rows:
        print(*(row[name] for name in ('task', 'part', 'forward_ms', 'backward_ms', 'percent')), sep='\t')
    if args.out:
        write_csv(args.out, rows)


if __name__ == '__main__':
    main()
