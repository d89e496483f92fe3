"""Time of inference and of a multi-resolution training step, of ours, timm's ViT and a literal ResFormer.

    python benchmarks/speed.py --out benchmarks/results/speed_cpu.csv --variants tiny --dtypes float32
    python benchmarks/speed.py --out benchmarks/results/speed_cpu.csv --compile both --dtypes float32 bfloat16

timm's ViT has the same shape, but a position table, which it resizes for every size other than 224, instead
of GPE and LPE. The literal ResFormer (literal_resformer.py) computes the same as this package. Every round
runs all three in a rotating order, so that a temporary slowdown of the machine affects all of them. Ratios
are medians over the rounds of (other / ours); above 1, ours is faster. A training step is forward, loss
(cross-entropy and scale consistency) and backward at three resolutions. On a GPU: --device cuda.

Rows that the file has are not measured again, so that a table can be made in several runs. `--code` names the
rows of a version of the package: put its folder first in PYTHONPATH to measure it with this script. Compiled
models have one program for all sizes; --rounds 0 compiles them only, and fills the cache of the compiler.
`--table` prints the table of docs/experiments.md.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from literal_resformer import LiteralResFormer
from torch import Tensor, nn

from resformer_mm.analysis.machine import describe_device
from resformer_mm.files import write_csv
from resformer_mm.models import ResFormer, SmoothL1Consistency
from resformer_mm.progress import track

# After resformer_mm, which makes torchvision importable if its operators do not load.
import timm  # isort: skip

VARIANTS = {'tiny': 'vit_tiny_patch16_224', 'small': 'vit_small_patch16_224', 'base': 'vit_base_patch16_224'}
# resolutions of a step (inference runs at the first)
CASES = ((128, 96, 80), (224, 160, 128), (384, 272, 224), (640, 464, 368))
# images of inference and of a step, for each case
BATCHES = {
    'tiny': ((16, 8), (8, 8), (4, 2), (1, 1)),
    'small': ((16, 8), (8, 8), (4, 2), (1, 1)),
    'base': ((8, 4), (4, 2), (2, 1), (1, 1)),
}
KEY = ('code', 'variant', 'mode', 'resolutions', 'batch', 'dtype', 'compiled', 'device')
TABLE = ('code', 'variant', 'mode', 'resolutions', 'batch', 'dtype', 'compiled', 'timm/ours', 'literal/ours')


class TimmViT(nn.Module):
    """timm's ViT with a position table for any size, resized by timm in the forward pass."""

    def __init__(self, variant: str) -> None:
        super().__init__()
        self.vit = timm.create_model(VARIANTS[variant], num_classes=0, dynamic_img_size=True)

    def forward(self, image: Tensor) -> Tensor:
        return self.vit(image)


def make_models(variant: str, compile_models: bool, device: str) -> dict[str, nn.Module]:
    """Return the three models; the literal one has the same weights as ours."""
    ours = ResFormer(arch=variant)
    arch = ResFormer.arch_zoo[variant]
    literal = LiteralResFormer(arch['embed_dims'], arch['num_layers'], arch['num_heads'])
    names = {'global_position.conv': 'pos_embed.embed_layer', 'local_position.conv': 'get_v'}
    state = {}
    for key, value in ours.state_dict().items():
        for mine, theirs in names.items():
            key = key.replace(mine, theirs)
        state[key] = value
    literal.load_state_dict(state)
    models = {'ours': ours, 'timm': TimmViT(variant), 'literal': literal}
    models = {name: model.to(device) for name, model in models.items()}
    with torch.no_grad():
        image = torch.randn(1, 3, 160, 160, device=device)
        torch.testing.assert_close(
            models['ours'].eval()(image)[0], models['literal'](image), atol=1e-4, rtol=0
        )
    if compile_models:
        torch.compiler.reset()
        models = {name: compile_model(model) for name, model in models.items()}
    return models


def compile_model(model: nn.Module) -> nn.Module:
    """Return a model with one program for all sizes."""
    # Inductor gives channels-last inputs of convolutions the strides of the first size (PyTorch 2.13).
    return torch.compile(model, dynamic=True, options={'layout_optimization': False})


def token(model: nn.Module, image: Tensor) -> Tensor:
    """Return the class token of any of the models."""
    out = model(image)
    return out[0] if isinstance(out, tuple) else out


def inference(model: nn.Module, images: list[Tensor], autocast: Callable) -> None:
    """Run one batch of the largest resolution."""
    with torch.no_grad(), autocast():
        token(model, images[0])


def training_step(model: nn.Module, images: list[Tensor], autocast: Callable) -> None:
    """Run forward, loss and backward at all resolutions."""
    consistency = SmoothL1Consistency()
    labels = torch.arange(images[0].shape[0], device=images[0].device)
    loss, teacher = 0.0, None
    with autocast():
        for image in images:
            cls_token = token(model, image)
            loss = loss + nn.functional.cross_entropy(cls_token.float(), labels) / len(images)
            if teacher is not None:
                loss = loss + consistency(cls_token, teacher) / len(images)
            teacher = cls_token.detach()
    loss.backward()
    model.zero_grad(set_to_none=True)


def seconds(function: Callable, *args, repeats: int) -> float:
    """Return the time of a call, averaged over ``repeats`` consecutive ones."""
    start = time.perf_counter()
    for _ in range(repeats):
        function(*args)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def measure(
    models: dict[str, nn.Module],
    function: Callable,
    images: list[Tensor],
    autocast: Callable,
    rounds: int,
    budget: float,
) -> dict[str, list[float]]:
    """Return the times of every model, one per round; the models alternate.

    The number of rounds is that which fits the budget in seconds, from three to ``rounds``.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    order = list(models)
    repeats, total = {}, 0.0
    for name in order:
        models[name].train(function is training_step)
        function(models[name], images, autocast)  # warm-up, and compilation
        once = seconds(function, models[name], images, autocast, repeats=1)
        repeats[name] = max(1, min(20, round(0.3 / once)))
        total += once * repeats[name]
    for number in range(min(rounds, max(3, round(budget / total)))):
        for name in order[number % len(order) :] + order[: number % len(order)]:
            times[name].append(seconds(function, models[name], images, autocast, repeats=repeats[name]))
    return times


def describe_row(key: dict[str, str], times: dict[str, list[float]]) -> dict[str, str]:
    """Return a row of the CSV."""
    ratios = {
        name: [other / mine for other, mine in zip(times[name], times['ours'])]
        for name in ('timm', 'literal')
    }
    return {
        **key,
        **{f'{name}_ms': f'{1e3 * statistics.median(found):.1f}' for name, found in times.items()},
        'timm/ours': f'{statistics.median(ratios["timm"]):.3f}',
        'timm/ours_min': f'{min(ratios["timm"]):.3f}',
        'timm/ours_max': f'{max(ratios["timm"]):.3f}',
        'literal/ours': f'{statistics.median(ratios["literal"]):.3f}',
        'rounds': str(len(times['ours'])),
        'threads': str(torch.get_num_threads()),
        'torch': torch.__version__,
        'timm': timm.__version__,
    }


def measure_models(
    variant: str, dtype: str, is_compiled: bool, rows: list[dict[str, str]], args: argparse.Namespace
) -> None:
    """Measure the cases of a variant that have no row yet, and write each to the file."""

    def autocast() -> torch.autocast:
        return torch.autocast(args.device, dtype=torch.bfloat16, enabled=dtype == 'bfloat16')

    models: dict[str, nn.Module] = {}
    done = {tuple(row[name] for name in KEY) for row in rows}
    for resolutions, batches in zip(CASES, BATCHES[variant]):
        if args.sizes and resolutions[0] not in args.sizes:
            continue
        for mode, function, batch in zip(
            ('inference', 'multi-resolution step'), (inference, training_step), batches
        ):
            used = resolutions if function is training_step else resolutions[:1]
            batch *= args.batch_factor
            key = {
                'code': args.code,
                'variant': variant,
                'mode': mode,
                'resolutions': ' '.join(map(str, used)),
                'batch': str(batch),
                'dtype': dtype,
                'compiled': 'yes' if is_compiled else 'no',
                'device': describe_device(args.device),
            }
            if tuple(key.values()) in done:
                continue
            models = models or make_models(variant, is_compiled, args.device)
            images = [torch.randn(batch, 3, r, r, device=args.device) for r in used]
            times = measure(models, function, images, autocast, args.rounds, args.seconds)
            if not args.rounds:
                continue
            rows.append(describe_row(key, times))
            print({name: rows[-1][name] for name in (*TABLE, 'ours_ms', 'rounds')}, flush=True)
            write_csv(args.out, rows)


def main() -> None:
    """Measure all cases that the CSV has not, or print it as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument('--code', default='now', help='name of the rows (now)')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtypes', nargs='+', choices=['float32', 'bfloat16'], default=['float32'])
    parser.add_argument('--compile', choices=['no', 'yes', 'both'], default='no', help='torch.compile (no)')
    parser.add_argument('--rounds', type=int, default=9, help='at most; 0 measures nothing (9)')
    parser.add_argument('--seconds', type=float, default=10, help='of a case, for at least 3 rounds (10)')
    parser.add_argument('--variants', nargs='+', default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument('--sizes', nargs='+', type=int, choices=[case[0] for case in CASES], help='(all)')
    parser.add_argument('--batch-factor', type=int, default=1, help='multiplies the batch sizes (GPUs)')
    parser.add_argument('--table', action='store_true', help='print the file as a Markdown table')
    args = parser.parse_args()
    rows: list[dict[str, str]] = []
    if args.out.is_file():
        with open(args.out, newline='') as file:
            rows = list(csv.DictReader(file))
    if args.table:
        for row in rows:
            print('| ' + ' | '.join(row[name] for name in TABLE) + ' |')
        return
    torch.manual_seed(0)
    settings = [
        (variant, dtype, is_compiled)
        for variant in args.variants
        for dtype in args.dtypes
        for is_compiled in (False, True)
        if args.compile in ('both', 'yes' if is_compiled else 'no')
    ]
    for setting in track(settings, 'models'):
        measure_models(*setting, rows, args)


if __name__ == '__main__':
    main()
