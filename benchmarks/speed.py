"""Time of inference and of a multi-resolution training step, of ours, timm's ViT and a literal ResFormer.

    python benchmarks/speed.py --out benchmarks/results/speed_cpu.csv

timm's ViT has the same shape, but a position table instead of GPE and LPE. The literal ResFormer
(literal_resformer.py) computes the same as this package. Every round runs all three in a rotating order, so
that a temporary slowdown of the machine affects all of them. Ratios are medians over the rounds of
(other / ours); above 1, ours is faster. A training step is forward, loss (cross-entropy and scale
consistency) and backward at three resolutions. On a GPU: --device cuda --dtype bfloat16 --compile.
"""

from __future__ import annotations

import argparse
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

VARIANTS = {'tiny': 'vit_tiny_patch16_224', 'small': 'vit_small_patch16_224'}
# resolutions of a step (inference runs at the first), batch for inference, batch for a step
CASES = (
    ((128, 96, 80), 16, 8),
    ((224, 160, 128), 8, 8),
    ((384, 272, 224), 4, 2),
    ((640, 464, 368), 1, 1),
)


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
        models = {name: torch.compile(model) for name, model in models.items()}
    return models


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
    models: dict[str, nn.Module], function: Callable, images: list[Tensor], autocast: Callable, rounds: int
) -> dict[str, list[float]]:
    """Return the times of every model, one per round; the models alternate."""
    times: dict[str, list[float]] = {name: [] for name in models}
    order = list(models)
    repeats = {}
    for name in order:
        training = function is training_step
        models[name].train(training)
        seconds(function, models[name], images, autocast, repeats=2)  # warm-up
        once = seconds(function, models[name], images, autocast, repeats=1)
        repeats[name] = max(1, min(20, round(0.3 / once)))
    for number in range(rounds):
        for name in order[number % len(order) :] + order[: number % len(order)]:
            times[name].append(seconds(function, models[name], images, autocast, repeats=repeats[name]))
    return times


def main() -> None:
    """Measure all cases and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16'], default='float32')
    parser.add_argument('--compile', action='store_true', help='torch.compile every model')
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--variants', nargs='+', default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument('--batch-factor', type=int, default=1, help='multiplies the batch sizes (GPUs)')
    args = parser.parse_args()
    torch.manual_seed(0)

    def autocast() -> torch.autocast:
        enabled = args.dtype == 'bfloat16'
        return torch.autocast(args.device, dtype=torch.bfloat16, enabled=enabled)

    rows = []
    for variant in args.variants:
        models = make_models(variant, args.compile, args.device)
        for resolutions, batch, step_batch in track(CASES, variant):
            for mode, function, size in (
                ('inference', inference, batch * args.batch_factor),
                ('multi-resolution step', training_step, step_batch * args.batch_factor),
            ):
                used = resolutions if function is training_step else resolutions[:1]
                images = [torch.randn(size, 3, r, r, device=args.device) for r in used]
                times = measure(models, function, images, autocast, args.rounds)
                ratios = {
                    name: [other / mine for other, mine in zip(times[name], times['ours'])]
                    for name in ('timm', 'literal')
                }
                row = {
                    'variant': variant,
                    'mode': mode,
                    'resolutions': ' '.join(map(str, used)),
                    'batch': size,
                    **{f'{n}_ms': f'{1e3 * statistics.median(t):.1f}' for n, t in times.items()},
                    'timm/ours': f'{statistics.median(ratios["timm"]):.3f}',
                    'timm/ours_min': f'{min(ratios["timm"]):.3f}',
                    'timm/ours_max': f'{max(ratios["timm"]):.3f}',
                    'literal/ours': f'{statistics.median(ratios["literal"]):.3f}',
                    'rounds': args.rounds,
                    'device': describe_device(args.device),
                    'threads': torch.get_num_threads(),
                    'dtype': args.dtype,
                    'compiled': args.compile,
                    'torch': torch.__version__,
                    'timm': timm.__version__,
                }
                rows.append(row)
                print({k: row[k] for k in list(row)[:10]}, flush=True)
                write_csv(args.out, rows)


if __name__ == '__main__':
    main()
