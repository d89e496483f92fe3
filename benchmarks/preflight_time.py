"""Time of the check before training, on generated data and on any other data.

    python benchmarks/preflight_time.py --embedded data --out benchmarks/results/preflight_time_cpu.csv \
        --case ADE20K configs/segmentation/CONFIG.py train_dataloader.dataset.data_root=data/ade ... \
        --case COCO configs/detection/CONFIG.py train_dataloader.dataset.data_root=data/coco ...

- embedded: the multi-resolution config of every task that is made for generated data. Data that are not in
  the folder yet are written there, at their full size.
- case: a name, a config and its overrides, as of tools/check.py.

`seconds` are those that the check adds to tools/train.py, `command_seconds` those of tools/check.py, with
imports and the reading of the config: medians, in a process of its own for every round. `cpu_seconds` is the
time of the processor in the check, with that of its workers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

STARTED = time.perf_counter()

from separate_runs import run_in_subprocess, write_rows  # noqa: E402

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'
MAKE = ROOT / 'tools' / 'dataset_converters' / 'make_embedded_data.py'
# Task -> config, and the variable with the folder of its data.
EMBEDDED = {
    'classification': ('resformer-mini_mr-64-48-32_1xb64-30e_mini.py', 'MINI_DATA_ROOT'),
    'segmentation': ('resformer-mini_upernet-mr-128-96-64_1xb8-900_mini.py', 'MINI_SEGMENTATION_ROOT'),
    'detection': ('resformer-mini_mr-64-48-32_mask-rcnn_1xb8-8e_mini.py', 'MINI_DETECTION_ROOT'),
    'video': ('resformer-mini_mr-40-32-24_divST_1xb16-4x6x1-13e_mini.py', 'MINI_VIDEO_ROOT'),
}
MEASURED = ('seconds', 'cpu_seconds', 'command_seconds')


def cpu_seconds() -> float:
    """Return the time of the processor that this process and its workers have used."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(config: str, options: list[str]) -> None:
    """Print the times and the numbers of findings of one check as JSON."""
    from mmengine.config import DictAction

    from resformer_mm.apis import check_config, make_train_config

    parsed = argparse.ArgumentParser()
    parsed.add_argument('--cfg-options', nargs='*', action=DictAction)
    overrides = parsed.parse_args(['--cfg-options', *options]).cfg_options
    with contextlib.redirect_stdout(sys.stderr):
        cfg = make_train_config(config, cfg_options=overrides)
        start, cpu = time.perf_counter(), cpu_seconds()
        report = check_config(cfg)
    end = time.perf_counter()
    faults = sum(finding.is_fault for finding in report.findings)
    if report.findings:
        print(report.text(), file=sys.stderr)
    result = dict(faults=faults, notes=len(report.findings) - faults)
    result.update(seconds=end - start, cpu_seconds=cpu_seconds() - cpu, command_seconds=end - STARTED)
    print(json.dumps(result))


def prepare(root: Path) -> list[list[str]]:
    """Write the generated data that are missing, and return the cases."""
    cases = []
    for task, (name, variable) in EMBEDDED.items():
        folder = (root / task).absolute()
        subprocess.run([sys.executable, MAKE, folder, '--task', task], check=True)
        os.environ[variable] = str(folder)
        cases.append([f'embedded, {task}', str(CONFIGS / task / name)])
    return cases


def main() -> None:
    """Measure every case, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, help='CSV file')
    parser.add_argument('--embedded', type=Path, help='folder of the generated data')
    parser.add_argument('--case', nargs='+', action='append', default=[], metavar='NAME CONFIG KEY=VALUE')
    parser.add_argument('--rounds', type=int, default=3, help='processes per case (default: 3)')
    parser.add_argument('--measure', nargs='+', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure[0], args.measure[1:])
        return
    if args.out is None:
        parser.error('give a CSV file with --out')
    rows = []
    from resformer_mm.progress import track  # after the time is taken

    cases = [*(prepare(args.embedded) if args.embedded else []), *args.case]
    for name, config, *options in track(cases, 'cases'):
        results = [run_in_subprocess(__file__, '--measure', config, *options) for _ in range(args.rounds)]
        row = dict(
            data=name, config=Path(config).stem, faults=results[0]['faults'], notes=results[0]['notes']
        )
        for key in MEASURED:
            values = [result[key] for result in results]
            row[key] = f'{statistics.median(values):.1f}'
            row[f'{key}_min'], row[f'{key}_max'] = f'{min(values):.1f}', f'{max(values):.1f}'
        rows.append({**row, 'rounds': args.rounds})
        print(rows[-1], flush=True)
    write_rows(args.out, rows, 'cpu')


if __name__ == '__main__':
    main()
