"""Memory and time of a detector with windows in all blocks but four, global attention, and checkpointing.

    python benchmarks/detection_memory_speed.py --out benchmarks/results/detection_memory_speed_cpu.csv

Mask R-CNN on the small model with random weights, 80 classes, images of 1024 x 1024, float32. Inference: one
image, from pixels to boxes; with random weights no box passes the score threshold, so the mask head does not
run. Training: losses and their gradients for two images of ten objects, without the optimiser.

Each model runs in a separate process, and the models alternate. A warm-up on small images is not counted.
Times are medians of wall-clock seconds, and of CPU seconds over all threads, which other work on the machine
affects less. Allocated memory is the peak of PyTorch's allocator without the weights. On the CPU it is
measured in the same run: operators are few and long, so the profiler costs less than the noise.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from dense_batches import detection_batch
from separate_runs import run_in_subprocess, summarise, write_rows

from resformer_mm.analysis.memory import peak_memory
from resformer_mm.apis import load_model
from resformer_mm.progress import track

FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'detection'
CONFIG = FOLDER / 'resformer-small_mr-224-160-128_mask-rcnn_8xb2-36e_coco.py'
MODELS = {
    'windows of 14': {},
    'windows of 14, checkpointing': {'model.backbone.with_cp': True},
    'global': {'model.backbone.window_size': 0, 'model.backbone.window_block_indices': ()},
}
TASKS = {'inference': 1, 'training': 2}  # images


def run(name: str, task: str, size: int, device: str) -> dict[str, float]:
    """Measure one run in this process."""
    options = {'model.backbone.init_cfg': None, **MODELS[name]}
    torch.manual_seed(0)
    model = load_model(CONFIG, device=device, cfg_options=options).train(task == 'training')
    result = {}

    def call(size: int) -> None:
        batch = detection_batch([(size, size)] * TASKS[task])
        torch.manual_seed(0)  # so that the losses sample the same proposals
        start, cpu_start = time.perf_counter(), time.process_time()
        if task == 'inference':
            with torch.no_grad():
                model.test_step(batch)
        else:
            data = model.data_preprocessor(batch, training=True)
            loss, _ = model.parse_losses(model(**data, mode='loss'))
            loss.backward()
        if device.startswith('cuda'):
            torch.cuda.synchronize()
        result.update(seconds=time.perf_counter() - start, cpu_seconds=time.process_time() - cpu_start)
        model.zero_grad(set_to_none=True)

    call(128)
    result['allocated_MiB'] = peak_memory(lambda: call(size), device) / 2**20
    return result


def main() -> None:
    """Run the models alternately in new processes, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, help='CSV file')
    parser.add_argument('--size', type=int, default=1024, help='side of the images')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=int, default=2)
    parser.add_argument('--task', choices=list(TASKS), nargs='+', default=list(TASKS))
    parser.add_argument(
        '--model', choices=list(MODELS), help='run this model alone in this process; print the result'
    )
    args = parser.parse_args()
    if args.model:
        print(json.dumps(run(args.model, args.task[0], args.size, args.device)))
        return
    if args.out is None:
        parser.error('--out is required')

    rows = []
    for task in args.task:
        # Checkpointing has no effect in evaluation.
        names = [name for name in MODELS if task == 'training' or 'checkpointing' not in name]
        options = ('--size', args.size, '--device', args.device, '--task', task)
        results: dict[str, list[dict]] = {name: [] for name in names}
        for name in track(names * args.rounds, task):
            results[name].append(run_in_subprocess(__file__, *options, '--model', name))
            print(task, name, results[name][-1], flush=True)
        for name in names:
            row = {'task': task, 'model': name, 'images': TASKS[task], 'side': args.size}
            rows.append({**row, **summarise(results[name], decimals=1)})
        write_rows(args.out, rows, args.device)


if __name__ == '__main__':
    main()
