"""Time and error of inference in low precision, next to float32.

    python benchmarks/low_precision.py --out benchmarks/results/low_precision_cpu.csv

The ImageNet classifiers with random weights, whose position modules are random, too. Every round runs all
variants in rotating order, so that a temporary slowdown of the machine affects all of them. The ratio is the
median over the rounds of (float32 / variant), above 1 where the variant is faster; the error is that of the
logits, relative to those of float32. "bfloat16" is `--dtype bfloat16` of this package; "bfloat16, autocast"
converts the weights in every call; in "bfloat16, whole model", weights, norms and tokens are in 16 bits.
Files are run by onnxruntime; they are kept in --work-dir and written if they are missing.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from resformer_mm.analysis.machine import describe_device
from resformer_mm.apis import load_model
from resformer_mm.deployment.calibration import CalibrationImages
from resformer_mm.deployment.formats import OnnxFormat
from resformer_mm.deployment.quantization import quantize
from resformer_mm.deployment.runtimes import load_file
from resformer_mm.deployment.selection import deployable
from resformer_mm.engine.inference_dtype import set_inference_dtype
from resformer_mm.files import write_csv
from resformer_mm.progress import track

Run = Callable[[Tensor], Tensor]
CONFIGS = {
    'tiny': 'configs/classification/resformer-tiny_mr-224-160-128_8xb128-300e_in1k.py',
    'small': 'configs/classification/resformer-small_mr-224-160-128_8xb128-300e_in1k.py',
    'base': 'configs/classification/resformer-base_mr-224-160-128_8xb128-200e_in1k.py',
}
CASES = ((128, 1), (224, 1), (224, 8), (384, 1))  # resolution, images


class RandomImages(CalibrationImages):
    """Smooth random images instead of those of a data set."""

    def at(self, resolution: int) -> Iterator[Tensor]:
        """Yield images ``(1, 3, h, w)``, RGB, 0 to 255."""
        generator = torch.Generator().manual_seed(resolution)
        for _ in self.indices:
            yield random_pixels(1, resolution, generator)


def random_pixels(number: int, resolution: int, generator: torch.Generator) -> Tensor:
    """Return smooth images ``(B, 3, h, w)``, RGB, 0 to 255."""
    coarse = 255 * torch.rand(number, 3, 9, 9, generator=generator)
    return nn.functional.interpolate(coarse, size=(resolution, resolution), mode='bilinear')


def make_model(arch: str) -> nn.Module:
    """Return a classifier with random weights; those of the position modules are not zero."""
    torch.manual_seed(0)
    model = load_model(CONFIGS[arch], device='cpu')
    for name, parameter in model.named_parameters():
        if 'local_position' in name:
            nn.init.normal_(parameter, std=0.1)
    return model


def make_files(model: nn.Module, arch: str, folder: Path) -> dict[str, Path]:
    """Write the exported files of a model, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f'{arch}_{name}.onnx' for name in ('float32', 'int8')}
    exported = deployable(model)
    if not files['float32'].exists():
        OnnxFormat(20, None, 'onnxruntime').write(exported, files['float32'])
    if not files['int8'].exists():
        loaders = dict.fromkeys((128, 224, 384))
        quantize(files['float32'], files['int8'], RandomImages(exported, loaders, tuple(range(4)), 'train'))
    return files


def make_variants(arch: str, folder: Path, threads: int) -> dict[str, Run]:
    """Return name -> function from pixels to logits."""
    model = make_model(arch)
    exported = deployable(model)
    half, whole = copy.deepcopy(model), copy.deepcopy(model).bfloat16()
    if set_inference_dtype(half, 'bfloat16') != 'bfloat16':
        raise SystemExit('this processor would emulate bfloat16: there is nothing to measure')

    def plain(inner: nn.Module, dtype: torch.dtype = torch.float32) -> Run:
        return lambda pixels: inner(exported.normalization(pixels).to(dtype))

    def under(dtype: torch.dtype) -> Run:
        def run(pixels: Tensor) -> Tensor:
            with torch.autocast('cpu', dtype):
                return model(exported.normalization(pixels))

        return run

    variants = {
        'float32': plain(model),
        'bfloat16': plain(half),
        'bfloat16, autocast': under(torch.bfloat16),
        'bfloat16, whole model': plain(whole, torch.bfloat16),
        'float16, autocast': under(torch.float16),
    }
    for name, path in make_files(model, arch, folder).items():
        run = load_file(path, 'onnxruntime', threads).run
        variants[f'ONNX {name}'] = lambda pixels, run=run: run(pixels)[0]
    return variants


@torch.no_grad()
def measure(variants: dict[str, Run], pixels: Tensor, rounds: int) -> dict[str, tuple[list[float], float]]:
    """Return name -> seconds of each round, and relative error of the logits."""
    expected = variants['float32'](pixels)
    found: dict[str, tuple[list[float], float]] = {}
    for name, run in variants.items():
        logits = run(pixels).float()
        found[name] = ([], ((logits - expected).norm() / expected.norm()).item())
    order = list(variants)
    for number in range(rounds):
        for name in order[number % len(order) :] + order[: number % len(order)]:
            start = time.perf_counter()
            variants[name](pixels)
            found[name][0].append(time.perf_counter() - start)
    return found


def main() -> None:
    """Measure all cases and write the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/low_precision'))
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--archs', nargs='+', default=list(CONFIGS), choices=list(CONFIGS))
    args = parser.parse_args()
    rows = []
    for arch in args.archs:
        variants = make_variants(arch, args.work_dir, torch.get_num_threads())
        for resolution, number in track(CASES, arch):
            pixels = random_pixels(number, resolution, torch.Generator().manual_seed(0))
            found = measure(variants, pixels, args.rounds)
            for name, (seconds, error) in found.items():
                ratios = [one / other for one, other in zip(found['float32'][0], seconds)]
                rows.append(
                    {
                        'variant': name,
                        'model': arch,
                        'resolution': resolution,
                        'images': number,
                        'ms': f'{1e3 * statistics.median(seconds):.1f}',
                        'ratio': f'{statistics.median(ratios):.2f}',
                        'ratio_min': f'{min(ratios):.2f}',
                        'ratio_max': f'{max(ratios):.2f}',
                        'error_percent': f'{100 * error:.2f}',
                        'rounds': args.rounds,
                        'device': describe_device('cpu'),
                        'threads': torch.get_num_threads(),
                        'torch': torch.__version__,
                    }
                )
                print(*list(rows[-1].values())[:9], flush=True)
        write_csv(args.out, rows)


if __name__ == '__main__':
    main()
