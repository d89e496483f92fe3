"""Memory and time of segmenting a large image, with global attention and with windows in all blocks but four.

    python benchmarks/large_image_segmentation.py --out benchmarks/results/large_image_segmentation_cpu.csv

UPerNet on the base model with random weights, 150 classes, one image, float32, from the resized pixels to the
label map of the same size. Each model runs in a separate process, and the models alternate. Resident memory
is the peak of the process minus that after the imports; allocated memory is the peak of PyTorch's allocator
without the weights. Times are medians of wall-clock seconds, and of CPU seconds over all threads, which other
work on the machine affects less.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import torch
from separate_runs import run_in_subprocess, write_rows

from resformer_mm.progress import track

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {
    'global': 'resformer-base_mr-224-160-128_upernet_8xb2-160k_ade20k-512x512.py',
    'windows of 16': 'resformer-base_mr-224-160-128_upernet-window-16_8xb2-160k_ade20k-512x512.py',
}


def run(model_name: str, height: int, width: int, device: str, allocated: bool) -> dict[str, float]:
    """Segment an image in this process; return the resident peak in MiB and seconds, or the allocated MiB."""
    from resformer_mm.analysis.memory import peak_memory
    from resformer_mm.apis import load_model

    import mmseg.models  # noqa: F401  isort: skip

    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.manual_seed(0)
    model = load_model(ROOT / 'configs' / 'segmentation' / CONFIGS[model_name], device=device)
    from mmseg.structures import SegDataSample

    metainfo = dict(ori_shape=(height, width), img_shape=(height, width))
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    batch = dict(inputs=[image], data_samples=[SegDataSample(metainfo=metainfo)])

    def predict() -> None:
        with torch.no_grad():
            model.test_step(batch)
        if device.startswith('cuda'):
            torch.cuda.synchronize()

    if allocated:
        return {'allocated_MiB': peak_memory(predict, device) / 2**20}
    predict()
    start, cpu_start = time.perf_counter(), time.process_time()
    predict()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    resident = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imported) / 2**10
    return {'resident_MiB': resident, 'seconds': seconds, 'cpu_seconds': cpu_seconds}


def main() -> None:
    """Run the models alternately in new processes, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, help='CSV file')
    parser.add_argument('--size', type=int, nargs=2, default=[1024, 2048], help='height and width')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument(
        '--model', choices=list(CONFIGS), help='run this model alone in this process; print the result'
    )
    parser.add_argument('--allocated', action='store_true', help='with --model: measure the allocated memory')
    args = parser.parse_args()
    if args.model:
        print(json.dumps(run(args.model, *args.size, args.device, args.allocated)))
        return
    if args.out is None:
        parser.error('--out is required')

    options = ('--device', args.device, '--size', *args.size)
    results = {model: [] for model in CONFIGS}
    for model in track([*CONFIGS] * args.rounds, 'runs'):
        results[model].append(run_in_subprocess(__file__, *options, '--model', model))
    rows = []
    for model, rounds in results.items():
        allocated = run_in_subprocess(__file__, *options, '--model', model, '--allocated')['allocated_MiB']
        row = {
            'model': model,
            'height': args.size[0],
            'width': args.size[1],
            'resident_MiB': f'{max(result["resident_MiB"] for result in rounds):.0f}',
            'allocated_MiB': f'{allocated:.0f}',
            'cpu_seconds': f'{statistics.median(result["cpu_seconds"] for result in rounds):.1f}',
            'seconds': f'{statistics.median(result["seconds"] for result in rounds):.1f}',
            'rounds': args.rounds,
        }
        rows.append(row)
        print(row, flush=True)
    write_rows(args.out, rows, args.device)


if __name__ == '__main__':
    main()
