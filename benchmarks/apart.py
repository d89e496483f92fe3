"""Measurements in processes of their own, and the CSV of their results."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import torch
from machine import describe_device


def run_apart(script: str, *options: object) -> dict:
    """Run a script in a fresh process and return the JSON object on the last line that it prints."""
    command = [sys.executable, script, *map(str, options)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def write_rows(path: Path, rows: list[dict], device: str) -> None:
    """Write a CSV of float32 measurements; every row also says what they ran on."""
    setting = dict(
        device=describe_device(device),
        threads=torch.get_num_threads(),
        dtype='float32',
        torch=torch.__version__,
    )
    rows = [{**row, **setting} for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
