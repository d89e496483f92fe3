"""The times that the quickstart prints."""

import importlib.util
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINE = '11/26 06:41:09 - mmengine - INFO - Epoch({})  [{}][{}/32]  lr: 1.0000e-05  eta: 0:20:11  loss: 2.31\n'


@pytest.fixture(scope='module')
def quickstart():
    spec = importlib.util.spec_from_file_location('quickstart', ROOT / 'tools' / 'quickstart.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_first_step_is_told_from_later_ones(quickstart):
    later = [('train', 1, '11'), ('train', 2, ' 1'), ('train', 11, ' 1'), ('val', 1, ' 1')]
    assert not quickstart.FIRST_STEP.search(''.join(LINE.format(*step) for step in later))
    assert quickstart.FIRST_STEP.search(LINE.format('train', 1, ' 1'))


def test_stages_keep_their_first_time(quickstart, tmp_path, capsys):
    line = quickstart.TimeLine(time.time() - 125)
    line.reach('installation')
    line.start -= 1000
    line.reach('installation')
    line.reach('table')
    line.write(tmp_path / 'time_line.csv')
    assert (tmp_path / 'time_line.csv').read_text() == 'stage,seconds\ninstallation,125\ntable,1125\n'
    assert capsys.readouterr().out.split('\n')[0].strip() == 'installation after 2 min 05 s'
