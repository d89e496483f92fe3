"""Time of an optimiser step with one parameter group per tensor, and with merged groups.

    python benchmarks/optimizer_groups.py --out benchmarks/results/optimizer_groups_cpu.csv

AdamW with the parameter settings of configs/_base_/no_decay.py and 300e.py: no weight decay on norms, biases,
class token and position embeddings. Every round runs all four optimisers once in a rotating order, after
forward and backward of a multi-resolution step (cross-entropy and scale consistency), so that a temporary
slowdown of the machine affects all of them. Ratios are medians over the rounds of (ours / first row), below 1
where ours is faster; `whole` is that of forward, backward and optimiser together.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from torch import nn
from torch.optim import Optimizer

from resformer_mm.analysis.machine import describe_device
from resformer_mm.files import write_csv
from resformer_mm.models import ResFormer, SmoothL1Consistency

RESOLUTIONS = (128, 96, 80)
PARAMWISE = dict(
    norm_decay_mult=0.0,
    bias_decay_mult=0.0,
    custom_keys={
        name: dict(decay_mult=0.0) for name in ('.cls_token', '.global_position', '.local_position')
    },
)
MERGED = dict(constructor='resformer_mm.MergedGroupsOptimWrapperConstructor')
# The first is MMEngine's, the last that of the configs.
VARIANTS = {
    'one per tensor': (dict(fused=False), {}),
    'one per tensor, fused': (dict(fused=True), {}),
    'merged': (dict(fused=False), MERGED),
    'merged, fused': ({}, MERGED),
}


class Classifier(nn.Module):
    """A ResFormer with a linear head, trained on several resolutions."""

    def __init__(self, arch: str) -> None:
        super().__init__()
        self.backbone = ResFormer(arch=arch)
        self.head = nn.Linear(self.backbone.embed_dims, 1000)
        self.consistency = SmoothL1Consistency()

    def forward(self, images: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        tokens = [self.backbone(image)[0] for image in images]
        losses = [nn.functional.cross_entropy(self.head(token), labels) for token in tokens]
        pairs = zip(tokens[1:], tokens)
        return sum(losses) + sum(self.consistency(small, large.detach()) for small, large in pairs)


def make_optimizers(model: nn.Module) -> dict[str, Optimizer]:
    """Return the four optimisers of one model."""
    optimizers = {}
    for name, (settings, constructor) in VARIANTS.items():
        cfg = dict(
            optimizer=dict(type='AdamW', lr=1e-6, weight_decay=0.05, **settings),
            paramwise_cfg=PARAMWISE,
            **constructor,
        )
        optimizers[name] = build_optim_wrapper(model, cfg).optimizer
    return optimizers


def timed(function: Callable[[], object], device: str) -> float:
    """Return the milliseconds that a call takes."""
    if device != 'cpu':
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device != 'cpu':
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def measure(arch: str, batch: int, rounds: int, device: str) -> list[dict]:
    """Return a row for every optimiser of an architecture."""
    torch.manual_seed(0)
    model = Classifier(arch).to(device).train()
    images = [torch.randn(batch, 3, side, side, device=device) for side in RESOLUTIONS]
    labels = torch.randint(1000, (batch,), device=device)
    optimizers = make_optimizers(model)
    names = list(optimizers)
    steps: dict[str, list[float]] = {name: [] for name in names}
    passes: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names[turn % 4 :] + names[: turn % 4]:
            model.zero_grad()
            one_pass = timed(lambda: model(images, labels).backward(), device)
            step = timed(optimizers[name].step, device)
            if turn:  # the first round makes the states
                passes[name].append(one_pass)
                steps[name].append(step)
    rows = []
    for name in names:
        pairs = list(zip(steps[name], steps[names[0]]))
        wholes = list(zip(zip(steps[name], passes[name]), zip(steps[names[0]], passes[names[0]])))
        rows.append(
            {
                'model': f'AdamW, {arch}',
                'optimizer': name,
                'groups': len(optimizers[name].param_groups),
                'batch': batch,
                'step_ms': round(statistics.median(steps[name]), 1),
                'whole_ms': round(statistics.median(map(sum, zip(steps[name], passes[name]))), 1),
                'step_ratio': round(statistics.median(a / b for a, b in pairs), 3),
                'whole_ratio': round(statistics.median(sum(a) / sum(b) for a, b in wholes), 3),
                'device': describe_device(device),
                'threads': torch.get_num_threads(),
            }
        )
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--archs', nargs='+', default=['tiny', 'small', 'base'])
    parser.add_argument('--batch', type=int, default=4, help='images of a step (4)')
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    MMLogger.get_instance('optimizer_groups', log_level='WARNING')  # without a line per parameter
    rows = []
    for arch in args.archs:
        rows += measure(arch, args.batch, args.rounds, args.device)
        for row in rows[-4:]:
            print(row, flush=True)
        write_csv(args.out, rows)


if __name__ == '__main__':
    main()
