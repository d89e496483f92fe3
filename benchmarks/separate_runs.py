"""Measurements in separate processes, and CSV files of their results."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from resformer_mm.analysis.machine import describe_device
from resformer_mm.files import write_csv


def run_in_subprocess(script: str, *options: object) -> dict:
    """Run a script in a fresh process and return the JSON object on the last line that it prints."""
    command = [sys.executable, script, *map(str, options)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def summarise(results: list[dict], decimals: int) -> dict[str, str | int]:
    """Return columns of several runs: median, minimum and maximum of the times, maximum of the memory.

    Args:
        results: ``cpu_seconds``, ``seconds`` and ``allocated_MiB`` of each run.
        decimals: number of decimals of the seconds.
    """
    row = {}
    for key in ('cpu_seconds', 'seconds'):
        values = [result[key] for result in results]
        row[key] = f'{statistics.median(values):.{decimals}f}'
        row[f'{key}_min'] = f'{min(values):.{decimals}f}'
        row[f'{key}_max'] = f'{max(values):.{decimals}f}'
    row['allocated_MiB'] = f'{max(result["allocated_MiB"] for result in results):.0f}'
    return {**row, 'rounds': len(results)}


def write_rows(path: Path, rows: list[dict], device: str) -> None:
    """Write a CSV of float32 measurements, with the device and versions in every row."""
    setting = dict(
        device=describe_device(device),
        threads=torch.get_num_threads(),
        dtype='float32',
        torch=torch.__version__,
    )
    write_csv(path, [{**row, **setting} for row in rows])
