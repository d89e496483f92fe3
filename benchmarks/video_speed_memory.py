"""Time and memory of the backbone for clips and of mmaction2's TimeSformer, base model, divided attention.

    python benchmarks/video_speed_memory.py --out benchmarks/results/video_speed_memory_cpu.csv

Clips of 8 x 224 x 224, float32: a training step (forward, backward, SGD with momentum; without stochastic
depth, so that all steps do the same work) and inference without gradients, of the recognizer (400 classes).
Each model runs in a separate process, and the models alternate. Times are medians over the steps of all
rounds, without the first step of each: wall-clock seconds, and CPU seconds over all threads, which other work
on the machine affects less. Allocated memory is the peak of PyTorch's allocator in a training step or
inference: gradients and activations, without the weights and the momentum, which are allocated before.
Resident memory is the peak of the process minus that after the imports, with weights and momentum.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from separate_runs import run_in_subprocess, write_rows
from torch import nn

from resformer_mm.analysis.memory import peak_memory
from resformer_mm.apis import enter_scope, load_model, read_config
from resformer_mm.progress import track

FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'video'
MODELS = {
    'TimeSformer-B (mmaction2)': 'timesformer-base_224_divST-mmaction_8xb8-8x32x1-15e_kinetics400-rgb.py',
    'ResFormer-B': 'resformer-base_224_divST_8xb8-8x32x1-15e_kinetics400-rgb.py',
}


def build(name: str, device: str) -> nn.Module:
    """Return the recognizer of a config with random weights, without stochastic depth."""
    cfg = read_config(FOLDER / MODELS[name])
    cfg.model.backbone.pop('init_cfg', None)
    cfg.model.backbone.pop('pretrained', None)
    enter_scope(cfg)
    torch.manual_seed(0)
    model = load_model(cfg, device=device)
    for module in model.modules():
        for field in ('drop_prob', 'rate'):
            if type(module).__name__ == 'DropPath' and hasattr(module, field):
                setattr(module, field, 0.0)
    return model


def make_steps(name: str, batch: int, device: str) -> dict[str, Callable[[], None]]:
    """Return a training step and an inference, by name."""
    from mmaction.structures import ActionDataSample
    from mmengine.optim import OptimWrapper

    model = build(name, device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True)
    wrapper = OptimWrapper(optimizer)
    clips = torch.randint(0, 256, (batch, 1, 3, 8, 224, 224), dtype=torch.uint8)
    samples = [ActionDataSample().set_gt_label(i) for i in range(batch)]

    def train() -> None:
        model.train().train_step(dict(inputs=list(clips), data_samples=samples), wrapper)
        _wait(device)

    def infer() -> None:
        with torch.no_grad():
            model.eval().test_step(dict(inputs=list(clips), data_samples=samples))
        _wait(device)

    return {'training step': train, 'inference': infer}


def _wait(device: str) -> None:
    if device.startswith('cuda'):
        torch.cuda.synchronize()


def run(name: str, batch: int, device: str, steps: int, allocated: bool) -> dict:
    """Measure a model in this process: allocated MiB, or resident MiB and the times of every step.

    The times of a step are wall-clock and CPU seconds.
    """
    enter_scope(read_config(FOLDER / MODELS[name]))
    import mmaction.models  # noqa: F401

    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result: dict = {}
    for kind, step in make_steps(name, batch, device).items():
        step()
        if allocated:
            result[kind] = peak_memory(step, device) / 2**20
            continue
        result[kind] = []
        for _ in range(steps):
            start = time.perf_counter(), time.process_time()
            step()
            result[kind].append((time.perf_counter() - start[0], time.process_time() - start[1]))
        if kind == 'training step':
            result['resident_MiB'] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imported) / 2**10
    return result


def summarise(results: list[dict], kind: str) -> dict[str, float]:
    """Return median, minimum and maximum of the wall-clock seconds of a step, and the median CPU seconds."""
    elapsed, cpu = zip(*(times for result in results for times in result[kind]))
    return {
        'median': statistics.median(elapsed),
        'min': min(elapsed),
        'max': max(elapsed),
        'cpu': statistics.median(cpu),
    }


def main() -> None:
    """Run the models alternately in new processes, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, help='CSV file')
    parser.add_argument('--batch', type=int, default=1, help='clips per step')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--steps', type=int, default=2, help='timed steps of each kind per round')
    parser.add_argument(
        '--model', choices=list(MODELS), help='run this model alone in this process; print the result'
    )
    parser.add_argument('--allocated', action='store_true', help='with --model: measure the allocated memory')
    args = parser.parse_args()
    if args.model:
        print(json.dumps(run(args.model, args.batch, args.device, args.steps, args.allocated)))
        return
    if args.out is None:
        parser.error('--out is required')

    options = ('--device', args.device, '--batch', args.batch, '--steps', args.steps)
    rounds: dict[str, list[dict]] = {model: [] for model in MODELS}
    for model in track([*MODELS] * args.rounds, 'runs'):
        rounds[model].append(run_in_subprocess(__file__, *options, '--model', model))
        print(model, rounds[model][-1], flush=True)
    allocated = {
        model: run_in_subprocess(__file__, *options, '--model', model, '--allocated')
        for model in track(MODELS, 'memory')
    }
    rows, (baseline, *_) = [], MODELS
    for kind in ('training step', 'inference'):
        times = {model: summarise(results, kind) for model, results in rounds.items()}
        for model, own in times.items():
            resident = statistics.median(result['resident_MiB'] for result in rounds[model])
            memory, baseline_memory = (allocated[name][kind] for name in (model, baseline))
            row = {
                'what': kind,
                'model': model,
                'clips': args.batch,
                'seconds': f'{own["median"]:.2f}',
                'seconds_min': f'{own["min"]:.2f}',
                'seconds_max': f'{own["max"]:.2f}',
                'cpu_seconds': f'{own["cpu"]:.2f}',
                'cpu_seconds/TimeSformer': f'{own["cpu"] / times[baseline]["cpu"]:.3f}',
                'allocated_MiB': f'{memory:.0f}',
                'allocated/TimeSformer': f'{memory / baseline_memory:.3f}',
                'resident_MiB': f'{resident:.0f}' if kind == 'training step' else '',
                'steps': args.rounds * args.steps,
            }
            rows.append(row)
            print(row, flush=True)
    write_rows(args.out, rows, args.device)


if __name__ == '__main__':
    main()
