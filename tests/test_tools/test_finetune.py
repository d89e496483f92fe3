"""``tools/finetune.py``: the whole way from a folder to predictions, and mistakes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from mmengine.config import Config
from runs import ROOT, run_tool, succeed

from resformer_mm.synthetic import write_image_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('photos')
    write_image_folder(root, num_train=40, num_val=20, size=32)
    return root


def finetune(data: Path, folder: Path, *options: object):
    return run_tool('finetune.py', data, '--out-dir', folder / 'out', *options, data=data, cwd=folder)


def test_from_a_folder_to_predictions(data, tmp_path):
    dry = succeed(finetune(data, tmp_path, '--dry-run', '--epochs', 1, '--resolutions', 16))
    assert '40 samples to train on, 20 to validate' in dry.stdout
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['config.py', 'data']
    assert dry.stdout.strip().endswith('--resume')
    assert Config.fromfile(tmp_path / 'out' / 'config.py').resolutions == [16]
    result = finetune(data, tmp_path)
    assert result.returncode == 2 and 'go on with --resume' in result.stderr
    result = succeed(finetune(data, tmp_path, '--resume', '--epochs', 7))
    assert '--epochs: not used, because --resume goes on with' in result.stdout
    assert (tmp_path / 'out' / 'sweep' / 'sweep.html').is_file()
    command = result.stdout.strip().splitlines()[-1].strip()
    words = shlex.split(command.replace('INPUT', str(next((data / 'val').iterdir()))))
    assert words[:2] == ['python', 'tools/demo.py'] and (ROOT / words[1]).is_file()
    predictions = succeed(run_tool('demo.py', *words[2:], data=data, cwd=tmp_path))
    assert ' done' in predictions.stdout


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--resolutions', 'high'], '--resolutions high: give numbers of pixels, or auto'),
        (['--epochs', 0], '--epochs must be at least 1'),
        (['--resume'], '--resume: there is no'),
        (['--weights', 'missing.pth', '--dry-run'], 'missing.pth'),
        (['--task', 'video'], 'has no data for video'),
    ],
)
def test_mistakes(data, tmp_path, options, message):
    result = finetune(data, tmp_path, *options)
    assert result.returncode == 2 and message in result.stderr


def test_faults_of_the_data_stop(tmp_path):
    data = tmp_path / 'photos'
    write_image_folder(data, num_train=20, num_val=20, size=32)
    broken = next(path for path in (data / 'train').rglob('*') if path.is_file())
    broken.write_bytes(broken.read_bytes()[:40])
    result = finetune(data, tmp_path)
    assert result.returncode == 1
    assert broken.name in result.stdout and not (tmp_path / 'out' / 'config.py').exists()
