"""Time of a multi-resolution training step with and without torch.compile, in float32 and bfloat16.

    python benchmarks/compiled_step.py --out benchmarks/results/compiled_step_cpu.csv

A step is forward of all resolutions together, loss (cross-entropy and scale consistency) and backward; the
backbone is compiled as by `compile=True` in a config. Every round runs all variants in rotating order.
"compile_s" is the time of the first three steps less three later ones, "graphs" the number of graphs,
"breaks" that of graph breaks, and "recompilations" that of graphs which later steps with the same resolutions
compiled. On a GPU: --device cuda.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from resformer_mm.analysis.machine import describe_device
from resformer_mm.files import write_csv
from resformer_mm.models import ResFormer, SmoothL1Consistency

CASES = (('tiny', (128, 96, 80), 8), ('small', (224, 160, 128), 4))
MODES = ('eager', 'compiled')
WARM_UP = 3


def make_step(model: ResFormer, images: list[Tensor], dtype: torch.dtype) -> Callable[[], float]:
    """Return a function that runs a step and returns its loss."""
    consistency = SmoothL1Consistency()
    labels = torch.arange(images[0].shape[0], device=images[0].device)

    def step() -> float:
        with torch.autocast(images[0].device.type, dtype, enabled=dtype != torch.float32):
            outputs = model.forward_copies(images, 'cls')
        tokens = [token.float() for _, token in outputs]
        losses = [nn.functional.cross_entropy(token, labels) for token in tokens]
        losses += [consistency(small, large.detach()) for large, small in zip(tokens, tokens[1:])]
        loss = sum(losses)
        loss.backward()
        model.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def timed(step: Callable[[], float], repeats: int = 1) -> float:
    """Return the seconds of some steps; reading the loss waits for the device."""
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    return time.perf_counter() - start


def measure(arch: str, resolutions: tuple[int, ...], batch: int, args: argparse.Namespace) -> list[dict]:
    """Return the rows of a case, one per variant."""
    torch.manual_seed(0)
    base = ResFormer(arch).to(args.device).train()
    images = [torch.randn(batch, 3, side, side, device=args.device) for side in resolutions]
    # Not between the variants: the first ones would be compiled again.
    torch.compiler.reset()
    steps: dict[tuple[str, str], Callable[[], float]] = {}
    facts: dict[tuple[str, str], dict] = {}
    for dtype in args.dtypes:
        for name in MODES:
            counters.clear()
            model = copy.deepcopy(base)
            if name == 'compiled':
                model.compile()
            steps[dtype, name] = step = make_step(model, images, getattr(torch, dtype))
            first = timed(step, WARM_UP)
            graphs = counters['stats'].get('unique_graphs', 0)
            later = timed(step, WARM_UP)
            facts[dtype, name] = {
                'loss': f'{step():.5f}',
                'compile_s': f'{max(0.0, first - later):.1f}' if name == 'compiled' else '',
                'graphs': graphs,
                'breaks': sum(counters['graph_break'].values()),
                'recompilations': counters['stats'].get('unique_graphs', 0) - graphs,
            }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    order = list(steps)
    for number in range(args.rounds):
        for key in order[number % len(order) :] + order[: number % len(order)]:
            times[key].append(timed(steps[key]))
    rows = []
    for (dtype, name), seconds in times.items():
        of_eager = [one / other for one, other in zip(times[dtype, 'eager'], seconds)]
        of_float32 = [one / other for one, other in zip(times[args.dtypes[0], name], seconds)]
        rows.append(
            {
                'model': arch,
                'resolutions': ' '.join(map(str, resolutions)),
                'images': batch,
                'dtype': dtype,
                'mode': name,
                'ms': f'{1e3 * statistics.median(seconds):.0f}',
                'of_eager': f'{statistics.median(of_eager):.2f}',
                f'of_{args.dtypes[0]}': f'{statistics.median(of_float32):.2f}',
                **facts[dtype, name],
                'rounds': args.rounds,
                'device': describe_device(args.device),
                'threads': torch.get_num_threads(),
                'torch': torch.__version__,
            }
        )
    return rows


def main() -> None:
    """Measure all cases and write the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument('--device', default='cpu')
    parser.add_argument(
        '--dtypes', nargs='+', choices=['float32', 'bfloat16'], default=['float32', 'bfloat16']
    )
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--cases', nargs='+', type=int, default=list(range(len(CASES))), help='by number')
    args = parser.parse_args()
    inductor.force_disable_caches = True  # of earlier runs
    rows: list[dict] = []
    for index in args.cases:
        for row in measure(*CASES[index], args):
            rows.append(row)
            print(*list(row.values())[:13], flush=True)
        write_csv(args.out, rows)


if __name__ == '__main__':
    main()
