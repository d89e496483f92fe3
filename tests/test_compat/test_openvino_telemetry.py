"""OpenVINO is imported without its telemetry, in a separate interpreter with a home of its own."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

CODE = """
import sys
from resformer_mm.compat.openvino_telemetry import import_openvino

openvino = import_openvino()
assert openvino is import_openvino() and openvino.Core().available_devices
print([name for name in sys.modules if name.startswith('openvino_telemetry')])
"""


def test_nothing_of_the_telemetry_is_imported_or_written(tmp_path: Path) -> None:
    if find_spec('openvino_telemetry') is None:  # importing it would write, too
        pytest.skip('OpenVINO is not installed')
    environment = {**os.environ, 'HOME': str(tmp_path)}
    command = [sys.executable, '-c', CODE]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.stdout.strip() == '[]', result.stderr
    assert not list(tmp_path.iterdir())
