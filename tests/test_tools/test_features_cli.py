"""``tools/features.py``: from a folder and weights to a table, files and a picture; and mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import run_tool, succeed
from small_models import classifier, save_checkpoint

from resformer_mm.features import read_features
from resformer_mm.synthetic import write_image_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('photos')
    write_image_folder(root, num_train=40, num_val=20, size=32)
    return root


def test_from_a_folder_to_a_table(data, tmp_path):
    weights = save_checkpoint(classifier(), tmp_path / 'weights.pth')
    options = ['--weights', weights, '--data', data, '--resolutions', 16, 32, '--pictures', 2, '--workers', 0]
    result = succeed(run_tool('features.py', *options, '--out-dir', 'out', data=data, cwd=tmp_path))
    assert 'cropped to a square' in result.stdout
    lines = [line for line in result.stdout.splitlines() if ' ± ' in line and 'class token' in line]
    assert [line.split()[0] for line in lines] == ['16', '32']
    features = read_features(tmp_path / 'out' / 'features.npz')
    assert len(features.paths) == 60 and features.splits.count('val') == 20
    assert features.values[32, 'class_token'].shape == (60, 32)
    assert (tmp_path / 'out' / 'scores.csv').is_file() and (tmp_path / 'out' / 'scores.json').is_file()
    with Image.open(tmp_path / 'out' / 'patches.png') as picture:
        assert np.asarray(picture.convert('RGB')).std() > 5


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ([], 'give CONFIG and CHECKPOINT, or --weights'),
        (['--weights', 'w.pth'], '--weights needs --data'),
        (['--weights', 'missing.pth', '--data', '.'], 'missing.pth'),
        (['a.py', 'b.pth', '--mean', 1, 2, 3], '--mean and --std go with --weights'),
        (['--weights', 'w.pth', '--data', '.', '--dtype', 'int8'], 'argument --dtype: invalid choice'),
    ],
)
def test_mistakes(data, tmp_path, options, message):
    result = run_tool('features.py', *options, data=data, cwd=tmp_path)
    assert result.returncode == 2 and message in result.stderr
