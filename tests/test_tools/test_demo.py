"""``tools/demo.py`` from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from runs import run_tool, succeed
from small_models import classifier, detector, save_checkpoint, segmentor

from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.engine.precision import half_pays

pytestmark = pytest.mark.slow
CLASSES = [f'kind{label}' for label in range(7)]


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Config file and checkpoint of a classifier."""
    folder = tmp_path_factory.mktemp('model')
    classifier().dump(folder / 'config.py')
    return folder / 'config.py', save_checkpoint(classifier(), folder / 'w.pth', classes=CLASSES)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, a corrupt one and a text."""
    root = tmp_path_factory.mktemp('inputs') / 'pictures'
    root.mkdir()
    rng = np.random.default_rng(0)
    for name in ('a.png', 'b.jpg', 'd.png'):
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(root / name)
    (root / 'c.jpg').write_bytes((root / 'b.jpg').read_bytes()[:-300])
    (root / 'readme.txt').write_text('text')
    return root


def demo(*arguments: object, cwd: Path):
    return run_tool('demo.py', *arguments, data=cwd, cwd=cwd)


def test_a_folder(model, folder, tmp_path) -> None:
    out = tmp_path / 'out'
    result = succeed(demo(folder, *model, '--out-dir', out, '--topk', 2, '--batch-size', 2, cwd=tmp_path))
    names = ('a.png', 'b.jpg', 'd.png')
    expected = make_inferencer(*model, 'cpu')([folder / name for name in names], topk=2)['predictions']
    lines = result.stdout.splitlines()
    for prediction in expected:
        best = ', '.join(f'{entry["class"]} {entry["score"]:.3f}' for entry in prediction['topk'])
        assert f'{prediction["path"]}: {best}' in lines
    assert re.fullmatch(r'3 done, 1 skipped: c\.jpg \(OSError: image file is truncated.*\)', lines[-1])
    assert 'readme.txt' in result.stdout and 'Inference' not in result.stderr  # not a terminal
    written = json.loads((out / 'predictions.json').read_text())
    assert [entry['pred_class'] for entry in written['predictions']] == [p['pred_class'] for p in expected]
    assert [Path(entry['path']).name for entry in written['skipped']] == ['c.jpg']
    assert sorted(path.name for path in (out / 'vis').iterdir()) == ['a.png', 'b.png', 'd.png']


def test_in_16_bits(model, folder, tmp_path) -> None:
    scores = []
    for options in ([], ['--dtype', 'bfloat16'], ['--amp']):
        succeed(demo(folder / 'a.png', *model, '--out-dir', 'out', *options, cwd=tmp_path))
        written = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
        scores.append(written['predictions'][0]['pred_scores'])
    assert scores[1] == pytest.approx(scores[0], abs=0.03) and scores[2] == scores[1]
    assert (scores[1] != scores[0]) == half_pays('bfloat16', 'cpu', 'this test')
    result = demo(folder / 'a.png', *model, '--dtype', 'bfloat16', '--amp', cwd=tmp_path)
    assert result.returncode == 2 and '--amp: not allowed with argument --dtype' in result.stderr


def test_several_resolutions_make_a_table(model, folder, tmp_path) -> None:
    out = tmp_path / 'out'
    result = demo(folder, *model, '--resolution', 32, 16, 96, '--out-dir', out, cwd=tmp_path)
    lines = succeed(result).stdout.splitlines()
    rows = [line.strip('| ').split('|') for line in lines if line.startswith('|')]
    assert [cell.strip() for cell in rows[0]][-3:] == ['32', '16', '96']
    inferencer = make_inferencer(*model, 'cpu')
    for name, row in zip(('a.png', 'b.jpg', 'd.png'), rows[2:], strict=True):
        expected = [str(folder / name)]
        for resolution in (32, 16, 96):
            (prediction,) = inferencer(folder / name, resolution=resolution)['predictions']
            expected.append(f'{prediction["pred_class"]} {prediction["pred_score"]:.3f}')
        assert [cell.strip() for cell in row] == expected
    for resolution in (32, 16, 96):
        written = json.loads((out / str(resolution) / 'predictions.json').read_text())
        assert {entry['resolution'] for entry in written['predictions']} == {resolution}
        assert len(list((out / str(resolution) / 'vis').iterdir())) == 3
    assert len(set(map(str, (row[1:] for row in rows[2:])))) > 1


def test_a_video(model, tmp_path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / 'v.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 5.0, (64, 48))
    for number in range(6):
        writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
    writer.release()
    options = ('--resolution', 32, '--batch-size', 4, '--out-dir', 'out')
    lines = succeed(demo('v.avi', *model, *options, cwd=tmp_path)).stdout.splitlines()
    (line,) = [line for line in lines if line.startswith('v.avi: 6 frames: ')]
    numbers = re.findall(r'kind\d in (\d)', line)
    assert sum(map(int, numbers)) == 6 and lines[-1] == '6 done, 0 skipped'
    assert (tmp_path / 'out' / 'vis' / 'v.mp4').is_file()


@pytest.mark.parametrize(
    ('make', 'options'),
    [
        pytest.param(segmentor, dict(slice=48, overlap=0.25), marks=pytest.mark.operators('mmseg')),
        pytest.param(detector, dict(score_thr=0.0), marks=pytest.mark.operators('mmdet')),
    ],
)
def test_other_tasks(make, options, folder, tmp_path) -> None:
    make().dump(tmp_path / 'config.py')
    checkpoint = save_checkpoint(make(), tmp_path / 'w.pth', std=None)
    line = [part for name, value in options.items() for part in (f'--{name.replace("_", "-")}', value)]
    out = tmp_path / 'out'
    line += ['--out-dir', out]
    result = succeed(demo(folder / 'a.png', tmp_path / 'config.py', checkpoint, *line, cwd=tmp_path))
    inferencer = make_inferencer(make(), checkpoint, 'cpu')
    (prediction,) = inferencer(folder / 'a.png', **options)['predictions']
    assert f'{folder / "a.png"}: {inferencer.describe(prediction)}' in result.stdout.splitlines()
    (written,) = json.loads((out / 'predictions.json').read_text())['predictions']
    parts = set(prediction) - {'seg_map', 'masks'}
    assert {name: written[name] for name in parts} == {name: prediction[name] for name in parts}
    assert (out / 'vis' / 'a.png').is_file()


def test_nothing_done_is_a_failure(model, folder, tmp_path) -> None:
    (tmp_path / 'bad').mkdir()
    (tmp_path / 'bad' / 'c.jpg').write_bytes((folder / 'c.jpg').read_bytes())
    result = demo('bad', *model, cwd=tmp_path)
    assert result.returncode == 1 and '0 done, 1 skipped: c.jpg' in result.stdout
    assert 'nothing could be predicted' in result.stderr


MISTAKES = {
    'missing input': (['nowhere.png'], [], 'there is no file or folder nowhere.png'),
    'corrupt input': (['c.jpg'], [], r'cannot read .*c\.jpg \(OSError: image file is truncated'),
    'below one patch': (['a.png'], ['--resolution', 32, 8], '8 pixels is below one patch of 16 x 16'),
    'device': (['a.png'], ['--device', 'cuda:9'], "the device 'cuda:9' cannot be used"),
    'slices of a classifier': (['a.png'], ['--slice', 64], 'slice=64 does not apply to ImageClassifier'),
    'option of another task': (['a.png'], ['--score-thr', 0.5], '--score-thr does not apply to the model of'),
    'checkpoint': (
        ['a.png'],
        ['--cfg-options', 'model.head.num_classes=5'],
        r'w\.pth.* needs \(5,\)',
    ),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_mistakes_are_reported(model, folder, tmp_path, mistake) -> None:
    (name,), options, message = MISTAKES[mistake]
    source = folder / name if (folder / name).is_file() else name
    result = demo(source, *model, *options, cwd=tmp_path)
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert re.search(f'demo.py: error: .*{message}', result.stderr)
    assert not (tmp_path / 'out').exists()
