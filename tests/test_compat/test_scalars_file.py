"""Numbers that are not finite in the lines that a run logs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from mmengine.visualization import Visualizer

from resformer_mm.compat.scalars_file import write_valid_scalars


def test_lines_are_valid_json(tmp_path: Path) -> None:
    visualizer = Visualizer(vis_backends=[dict(type='LocalVisBackend')], save_dir=str(tmp_path))
    runner = SimpleNamespace(visualizer=visualizer)
    write_valid_scalars(runner)
    numbers = {'loss': float('nan'), 'lr': 0.1, 'iter': 3, 'IoU': np.float64('inf')}
    visualizer.add_scalars(numbers, step=3, file_path='log.json')
    visualizer.add_scalar('loss', float('nan'), step=4)

    def lines(name: str) -> list[dict]:
        text = (tmp_path / 'vis_data' / name).read_text()
        return [json.loads(line, parse_constant=lambda word: 1 / 0) for line in text.splitlines()]

    first = {'loss': None, 'lr': 0.1, 'iter': 3, 'IoU': None, 'step': 3}
    assert lines('log.json') == [first]
    assert lines('scalars.json') == [first, {'loss': None, 'step': 4}]
    assert np.isnan(numbers['loss'])
