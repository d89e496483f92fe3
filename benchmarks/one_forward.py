"""Time of a multi-resolution step with one forward pass for all copies, and with one for each.

    python benchmarks/one_forward.py --out benchmarks/results/one_forward_cpu.csv
    python benchmarks/one_forward.py --out ... --append --cases images bfloat16 --dtype bfloat16
    python benchmarks/one_forward.py --out ... --append --cases compiled --compile

A step is forward, loss and backward of the backbone. The loss of images and clips is cross-entropy and scale
consistency of the class token; that of maps is their mean square, because a decode head takes the maps of
each resolution on its own either way. Stochastic depth multiplies dropped branches by zero (DropPath), or
leaves them out (SubsetDropPath, in batches of eight and more). Every round runs all variants in rotating
order, so that a temporary slowdown of the machine affects all of them. Ratios are medians over the rounds of
(variant / one pass for each copy with DropPath), below 1 where the variant is faster. On a GPU: --device
cuda.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from alternating import alternate, ratios
from torch import Tensor, nn

from resformer_mm.analysis.machine import describe_device
from resformer_mm.files import write_csv
from resformer_mm.models import ResFormer, SmoothL1Consistency, VideoResFormer
from resformer_mm.progress import track

VARIANTS = ('three', 'one', 'three_subset', 'one_subset')
LARGE_BATCH = 8  # from which on stochastic depth at 0.1 drops a sample of a batch


class Case(NamedTuple):
    """What is measured."""

    arch: str
    kind: str  # 'image', 'maps', or the attention of clips of eight frames
    sizes: tuple[int, ...]
    batch: int
    rate: float = 0.1


CASES = {
    'images': (
        Case('tiny', 'image', (128, 96, 80), 1),
        Case('tiny', 'image', (128, 96, 80), 16),
        Case('tiny', 'image', (224, 160, 128), 1),
        Case('tiny', 'image', (224, 160, 128), 8),
        Case('small', 'image', (128, 96, 80), 1),
        Case('small', 'image', (128, 96, 80), 16),
        Case('small', 'image', (224, 160, 128), 1),
        Case('small', 'image', (224, 160, 128), 8),
    ),
    'rates': (
        Case('tiny', 'image', (224, 160, 128), 8, 0.4),
        Case('small', 'image', (128, 96, 80), 16, 0.4),
        Case('small', 'image', (224, 160, 128), 8, 0.4),
    ),
    'maps': (
        Case('small', 'maps', (256, 192, 128), 1),
        Case('small', 'maps', (512, 384, 256), 1),
    ),
    'clips': (
        Case('small', 'divided_space_time', (128, 96, 80), 1),
        Case('small', 'divided_space_time', (224, 160, 128), 1),
        Case('small', 'joint_space_time', (128, 96, 80), 1),
        Case('small', 'space_only', (128, 96, 80), 1),
    ),
    'bfloat16': (
        Case('small', 'image', (128, 96, 80), 16, 0.4),
        Case('small', 'maps', (256, 192, 128), 1),
        Case('small', 'divided_space_time', (128, 96, 80), 1),
    ),
    'compiled': (
        Case('small', 'image', (128, 96, 80), 1),
        Case('small', 'image', (128, 96, 80), 16, 0.4),
    ),
}


def build(case: Case, drop_path: str, args: argparse.Namespace) -> ResFormer:
    """Return a backbone in training mode."""
    torch.manual_seed(0)
    settings = dict(arch=case.arch, drop_path_rate=case.rate, drop_path=dict(type=drop_path))
    if case.kind == 'image':
        model = ResFormer(**settings)
    elif case.kind == 'maps':
        model = ResFormer(**settings, out_type='featmap', out_indices=(2, 5, 8, 11))
    else:
        model = VideoResFormer(**settings, attention_type=case.kind)
    if args.compile:
        # Inductor gives channels-last inputs of convolutions the strides of the first size (PyTorch 2.13).
        model.compile(dynamic=True)
    return model.to(args.device).train()


def make_step(model: ResFormer, copies: list[Tensor], is_joint: bool, dtype: torch.dtype) -> Callable:
    """Return a function that runs a step."""
    consistency = SmoothL1Consistency()
    labels = torch.arange(copies[0].shape[0], device=copies[0].device) % model.embed_dims
    pool = 'cls' if model.out_type == 'cls_token' else None

    def step() -> None:
        with torch.autocast(copies[0].device.type, dtype, enabled=dtype != torch.float32):
            if is_joint:
                outputs = model.forward_copies(copies, pool)
            else:
                outputs = [model.forward_pooled(copy, pool) if pool else model(copy) for copy in copies]
        if pool is None:
            losses = [feats[-1].float().square().mean() for feats in outputs]
        else:
            tokens = [token.float() for _, token in outputs]
            losses = [nn.functional.cross_entropy(token, labels) for token in tokens]
            losses += [consistency(small, large.detach()) for large, small in zip(tokens, tokens[1:])]
        sum(losses).backward()
        model.zero_grad(set_to_none=True)

    return step


def measure(case: Case, args: argparse.Namespace) -> dict[str, object]:
    """Return the row of a case."""
    frames = () if case.kind in ('image', 'maps') else (8,)
    copies = [torch.randn(case.batch, 3, *frames, side, side, device=args.device) for side in case.sizes]
    dtype = getattr(torch, args.dtype)
    names = VARIANTS if case.batch >= LARGE_BATCH else VARIANTS[:2]
    models = {
        name: build(case, name, args)
        for name in ('DropPath', 'SubsetDropPath')[: 1 + any('subset' in name for name in names)]
    }
    steps = {
        name: make_step(
            models['SubsetDropPath' if 'subset' in name else 'DropPath'], copies, 'one' in name, dtype
        )
        for name in names
    }
    times = alternate(steps, args.rounds, args.warmup, args.device)
    row: dict[str, object] = {
        'model': f'ResFormer, {case.arch}',
        'kind': case.kind,
        'copies': ' '.join(map(str, case.sizes)),
        'batch': case.batch,
        'drop_path_rate': case.rate,
        'dtype': args.dtype,
        'compiled': 'yes' if args.compile else 'no',
        'three_ms': f'{1000 * statistics.median(times["three"]):.1f}',
    }
    for name in VARIANTS[1:]:
        found = [f'{value:.3f}' for value in ratios(times, name, 'three')] if name in times else [''] * 3
        row |= dict(zip((f'{name}/three', f'{name}_min', f'{name}_max'), found))
    return {
        **row,
        'rounds': args.rounds,
        'device': describe_device(args.device),
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
    }


def main() -> None:
    """Measure the cases and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument('--append', action='store_true', help='keep the rows that the file has')
    parser.add_argument(
        '--cases', nargs='+', choices=list(CASES), default=['images', 'rates', 'maps', 'clips']
    )
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16'], default='float32')
    parser.add_argument('--compile', action='store_true', help='torch.compile the model')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--warmup', type=int, default=1)
    args = parser.parse_args()
    rows: list[dict[str, object]] = []
    if args.append:
        with open(args.out, newline='', encoding='utf-8') as stream:
            rows = [*csv.DictReader(stream)]
    for case in track([case for name in args.cases for case in CASES[name]], 'cases'):
        rows.append(measure(case, args))
        print(*list(rows[-1].values())[:17], flush=True)
        write_csv(args.out, rows)


if __name__ == '__main__':
    main()
