"""Calls of the examples for exported files, in a process without PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys

from runs import ROOT

# What a client may import besides the standard library.
CLIENT = """
import importlib.abc, runpy, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'torch', 'mmcv', 'mmengine', 'cv2', 'resformer_mm'}:
            raise ImportError(f'{name} must not be needed')

sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition('/')[0])
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def run_client(name: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run an example by its name, where neither PyTorch nor this package can be imported."""
    command = [sys.executable, '-c', CLIENT, str(ROOT / 'examples' / name), *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def printed(result: subprocess.CompletedProcess) -> dict[str, float]:
    """Return the printed names and their scores."""
    assert result.returncode == 0, result.stderr
    rows = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    return {name: float(score) for score, name in rows}
