"""Accuracy, agreement, size and speed of integer ONNX files, by parts in float32 and by calibration.

    python benchmarks/integer_files.py CONFIG model.onnx --out benchmarks/results/integer_files_cpu.csv

Every variant is calibrated with training images of the config and compared with the float32 file on its
validation images: accuracy (top-1 in %), images with the same class in both files (in %), relative error of
the logits (in %). `speedup` is the median processor time of a call on one image with the float32 file,
divided by that with the integer file; calls alternate between the files. Processor time hardly depends on
other work on the machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from resformer_mm.analysis.machine import describe_device
from resformer_mm.apis import load_model
from resformer_mm.config.command_line import add_config_options
from resformer_mm.deployment.calibration import CalibrationImages
from resformer_mm.deployment.quantization import FLOAT_PARTS, METHODS, quantize
from resformer_mm.deployment.runtimes import LoadedFile, load_file
from resformer_mm.deployment.selection import evaluable
from resformer_mm.files import write_csv

ALL = tuple(FLOAT_PARTS)


def variants(resolutions: Sequence[int]) -> dict[str, dict]:
    """Return name -> parts in float32, calibration, and resolutions of the calibration."""
    default = dict(parts=ALL, method='minmax', resolutions=list(resolutions))
    found = {'default': default}
    for part in ALL:
        found[f'{part} in int8'] = {**default, 'parts': tuple(other for other in ALL if other != part)}
    found['everything in int8'] = {**default, 'parts': ()}
    for method in METHODS[1:]:
        found[method] = {**default, 'method': method}
    found[f'calibrated at {resolutions[0]} alone'] = {**default, 'resolutions': [resolutions[0]]}
    found[f'calibrated at {resolutions[-1]} alone'] = {**default, 'resolutions': [resolutions[-1]]}
    return found


def logits(file: LoadedFile, images: CalibrationImages) -> dict[int, Tensor]:
    """Return resolution -> logits of all images, ``(images, classes)``."""
    return {
        resolution: torch.cat([file.run(image)[0] for image in images.at(resolution)])
        for resolution in images.loaders
    }


def labels_of(images: CalibrationImages) -> Tensor:
    """Return the label of every image."""
    dataset = next(iter(images.loaders.values())).dataset
    return torch.tensor([int(dataset.get_data_info(index)['gt_label']) for index in images.indices])


def percent(values: Tensor) -> float:
    """Return the mean of truth values in %."""
    return 100 * values.float().mean().item()


def time_calls(files: Sequence[LoadedFile], image: torch.Tensor, rounds: int) -> list[float]:
    """Return the median seconds of the processor in a call of every file."""
    seconds: list[list[float]] = [[] for _ in files]
    for _ in range(rounds):
        for file, found in zip(files, seconds):
            file.run(image)
            for _ in range(10):
                start = time.process_time()
                file.run(image)
                found.append(time.process_time() - start)
    return [statistics.median(found) for found in seconds]


def main() -> None:
    """Quantise, compare, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('file', type=Path, help='float32 file of tools/deployment/export_onnx.py')
    parser.add_argument('--out', type=Path, required=True, help='CSV file')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/integer_files'))
    parser.add_argument('--resolutions', nargs='+', type=int, help="(those of the config's test_cfg)")
    parser.add_argument('--images', type=int, default=128, help='images of the calibration (128)')
    parser.add_argument('--val-images', type=int, default=10**9, help='images of the comparison (all)')
    parser.add_argument('--rounds', type=int, default=5, help='rounds of the timing (5)')
    parser.add_argument('--threads', type=int, default=1, help='threads of onnxruntime (1)')
    add_config_options(parser)
    args = parser.parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    model = load_model(args.config, device='cpu', cfg_options=args.cfg_options)
    exported = evaluable(model)
    val = CalibrationImages.of_config(model.cfg, exported, args.resolutions, args.val_images, 'val')
    labels = labels_of(val)
    original = load_file(args.file, threads=args.threads)
    expected = logits(original, val)
    files, rows = [original], []
    for name, settings in {'float32': {}, **variants(list(val.loaders))}.items():
        path, found = args.file, expected
        if settings:
            images = CalibrationImages.of_config(model.cfg, exported, settings['resolutions'], args.images)
            path = args.work_dir / f'{name.replace(" ", "_")}.onnx'
            quantize(args.file, path, images, settings['method'], settings['parts'])
            files.append(load_file(path, threads=args.threads))
            found = logits(files[-1], val)
        for resolution, output in found.items():
            wanted = expected[resolution]
            row = dict(
                variant=name,
                resolution=resolution,
                top1=f'{percent(output.argmax(1) == labels):.2f}',
                same_class=f'{percent(output.argmax(1) == wanted.argmax(1)):.2f}',
                error_percent=f'{100 * ((output - wanted).norm() / wanted.norm()).item():.2f}',
                file_mib=f'{path.stat().st_size / 2**20:.2f}',
            )
            rows.append(row)
            print(*row.values(), flush=True)
    for resolution in val.loaders:
        seconds = time_calls(files, next(val.at(resolution)), args.rounds)
        at_resolution = [row for row in rows if row['resolution'] == resolution]
        for row, value in zip(at_resolution, seconds):
            row['cpu_milliseconds'], row['speedup'] = f'{1e3 * value:.3f}', f'{seconds[0] / value:.2f}'
    common = dict(
        val_images=len(val.indices),
        calibration_images=args.images,
        threads=args.threads,
        device=describe_device('cpu'),
        runtime=original.runtime,
    )
    write_csv(args.out, [{**row, **common} for row in rows])


if __name__ == '__main__':
    main()
