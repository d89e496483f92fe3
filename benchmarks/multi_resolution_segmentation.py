"""Memory and time of a multi-resolution fine-tuning step of a segmentor, joint or turn by turn.

    python benchmarks/multi_resolution_segmentation.py \\
        --out benchmarks/results/multi_resolution_segmentation_cpu.csv

UPerNet on the small model with random weights, 150 classes, two crops of 512 x 512 that are resized to the
other resolutions, float32: data preprocessor, forward, backward and AdamW. The baseline is plain fine-tuning
at 512 alone.

Each mode runs in a separate process, and the modes alternate. A first step, which creates the state of the
optimiser, is not counted. Times are medians of wall-clock seconds, and of CPU seconds over all threads, which
other work on the machine affects less. Allocated memory is the peak of PyTorch's allocator in one more step:
gradients and activations, without the weights and the state of the optimiser, which are allocated before.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from dense_batches import segmentation_batch
from separate_runs import run_in_subprocess, summarise, write_rows

from resformer_mm.analysis.memory import peak_memory
from resformer_mm.apis import load_model
from resformer_mm.engine import train_by_turns
from resformer_mm.progress import track

FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'segmentation'
CONFIG = FOLDER / 'resformer-small_mr-224-160-128_upernet-mr-512-384_8xb2-80k_ade20k-512x512.py'
MODES = ('joint', 'turn by turn')
RESOLUTIONS = ((512,), (512, 384), (512, 384, 256))


def make_step(mode: str, resolutions: list[int], batch: int, device: str) -> Callable[[], None]:
    """Return a training step of a new model on a random batch."""
    from mmengine.optim import OptimWrapper

    options = {
        'model.backbone.init_cfg': None,
        'model.data_preprocessor.resolutions': resolutions,
        'model.data_preprocessor.size': (resolutions[0],) * 2,
    }
    torch.manual_seed(0)
    model = load_model(CONFIG, device=device, cfg_options=options).train()
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=6e-5, weight_decay=0.01))
    size = (resolutions[0],) * 2
    made = segmentation_batch(batch, size)

    def step() -> None:
        # The data preprocessor changes the samples in place.
        data = dict(made, data_samples=[sample.clone() for sample in made['data_samples']])
        train_by_turns(model, data, wrapper) if mode == 'turn by turn' else model.train_step(data, wrapper)
        if device.startswith('cuda'):
            torch.cuda.synchronize()

    return step


def run(mode: str, resolutions: list[int], batch: int, device: str) -> dict[str, float]:
    """Measure one mode in this process."""
    step = make_step(mode, resolutions, batch, device)
    step()
    start, cpu_start = time.perf_counter(), time.process_time()
    step()
    result = dict(seconds=time.perf_counter() - start, cpu_seconds=time.process_time() - cpu_start)
    return {**result, 'allocated_MiB': peak_memory(step, device) / 2**20}


def describe(mode: str, resolutions: tuple[int, ...], batch: int) -> dict:
    """Return the columns that identify a measurement."""
    name = mode if len(resolutions) > 1 else 'one resolution'
    return {'mode': name, 'resolutions': ' '.join(map(str, resolutions)), 'batch': batch}


def main() -> None:
    """Run the modes alternately in new processes, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, help='CSV file')
    parser.add_argument('--batch', type=int, default=2, help='crops per step')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--mode', choices=MODES, help='run this mode alone in this process; print the result')
    parser.add_argument('--resolutions', type=int, nargs='+', default=[512, 384], help='with --mode')
    args = parser.parse_args()
    if args.mode:
        print(json.dumps(run(args.mode, args.resolutions, args.batch, args.device)))
        return
    if args.out is None:
        parser.error('--out is required')

    # At one resolution both modes are equal.
    variants = [(mode, sizes) for sizes in RESOLUTIONS for mode in MODES[: len(sizes)]]
    results: dict[tuple, list[dict]] = {variant: [] for variant in variants}
    common = ('--batch', args.batch, '--device', args.device)
    for _ in track(range(args.rounds), 'rounds'):
        for mode, sizes in variants:
            options = ('--mode', mode, '--resolutions', *sizes, *common)
            results[mode, sizes].append(run_in_subprocess(__file__, *options))
            print(mode, sizes, results[mode, sizes][-1], flush=True)
        rows = [
            {**describe(*variant, args.batch), **summarise(found, decimals=2)}
            for variant, found in results.items()
        ]
        write_rows(args.out, rows, args.device)


if __name__ == '__main__':
    main()
