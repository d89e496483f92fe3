"""Files of predictions are valid JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from resformer_mm.inference.results import ResultFolder
from resformer_mm.inference.sources import Source


def _refuse(constant: str) -> None:
    raise AssertionError(f'{constant} is not JSON')


def test_scores_that_are_not_finite_are_null(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    pixels = np.zeros((4, 4, 3), np.uint8)
    folder.add(Source(array=pixels), dict(path=None, scores=[float('nan'), 0.5]), pixels)
    folder.finish(cost=float('inf'))
    content = json.loads((tmp_path / 'predictions.json').read_text(), parse_constant=_refuse)
    assert content['predictions'][0]['scores'] == [None, 0.5]
    assert content['cost'] is None
