"""The tools that draw: position embeddings, attention and training curves, from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image
from runs import ROOT, run, run_tool, scalars, succeed, write_config, write_data

pytestmark = pytest.mark.slow
POSITION = 'analysis_tools/visualize_position_embedding.py'
ATTENTION = 'analysis_tools/visualize_attention.py'
LOGS = 'analysis_tools/analyze_logs.py'
DIAGNOSIS = 'analysis_tools/diagnose_sizes.py'


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with configs, an image, and a `run` of one epoch that another one resumed."""
    folder = tmp_path_factory.mktemp('trained')
    command = ['train.py', write_config(folder / 'small.py'), '--work-dir', folder / 'run']
    succeed(run_tool(*command, '--cfg-options', 'train_cfg.max_epochs=1', data=data, cwd=folder))
    succeed(run_tool(*command, '--resume', data=data, cwd=folder))
    position = "model['backbone']['global_position'] = dict(type={!r}{})"
    write_config(folder / 'table.py', position.format('LearnedPositionEmbedding', ', grid_size=4'))
    write_config(folder / 'none.py', position.format('NoGlobalPosition', ''))
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / 'photo.jpg')
    return folder


def picture(path: Path) -> Image.Image:
    """Return a picture, after a look at whether something was drawn in it."""
    with Image.open(path) as image:
        assert image.format == 'PNG'
        rgb = image.convert('RGB')
    assert min(rgb.size) > 300
    assert len(rgb.getcolors(maxcolors=1 << 24)) > 50
    return rgb


def fail(result: CompletedProcess, *words: object) -> None:
    """Make sure that a run ended as for a wrong option: code 2, no traceback, and these words."""
    assert result.returncode == 2, result.stderr[-3000:]
    assert 'Traceback' not in result.stderr
    message = result.stderr.rsplit('error: ', 1)[-1]
    for word in words:
        assert str(word) in message, f'{word!r} is not in {message}'


def run_on(trained: Path, data: Path, name: str, *words: object) -> CompletedProcess:
    return run_tool(name, *words, data=data, cwd=trained)


def test_position_embeddings_of_two_models(trained: Path, data: Path, tmp_path: Path) -> None:
    words = ['small.py', 'run/epoch_2.pth', '--baseline', 'table.py', '--resolutions', '48', '64', '64x112']
    pictures = []
    for index, what in enumerate(([], ['--channel', 31], ['--similarity-to', 0.2, 0.9])):
        out = tmp_path / 'new' / f'{index}.png'
        options = ['--names', 'GPE', 'table', '--title', 'Figure 6', '--out', out]
        result = succeed(run_on(trained, data, POSITION, *words, *what, *options))
        assert f'picture: {out}' in result.stdout
        pictures.append(picture(out))
    assert len({image.tobytes() for image in pictures}) == 3
    # Untrained weights are drawn the same each time.
    again = tmp_path / 'again.png'
    options = ['--names', 'GPE', 'table', '--title', 'Figure 6', '--out', again]
    succeed(run_on(trained, data, POSITION, *words, *options))
    assert picture(again).tobytes() == pictures[0].tobytes()


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['small.py', '--resolutions', '64', '15'], ['small.py', 'resolution 15 is smaller than one patch']),
        (['small.py', '--resolutions', '64x'], ["'64x' is not a size"]),
        (['none.py', '--resolutions', '64'], ['none.py', 'NoGlobalPosition, which adds no embedding']),
        (['small.py', 'run/epoch_2.pth', '--baseline', 'table.py', 'run/epoch_2.pth', '--resolutions', '64'],
         ['run/epoch_2.pth does not fit', 'global_position']),
        (['small.py', 'gone.pth', '--resolutions', '64'], ['gone.pth does not exist']),
        (['gone.py', '--resolutions', '64'], ['there is no config gone.py']),
        (['small.py', '--resolutions', '64', '--channel', '32'], ['no channel 32', '0 to 31']),
        (['small.py', '--resolutions', '64', '--baseline', 'a', 'b', 'c'], ['CONFIG [CHECKPOINT]']),
    ],
    ids=lambda value: value[0] if ' ' in value[-1] else None,
)  # fmt: skip
def test_what_has_no_position_picture(trained: Path, data: Path, words: list, message: list) -> None:
    fail(run_on(trained, data, POSITION, *words, '--out', 'no.png'), *message)
    assert not (trained / 'no.png').exists()


def test_attention_in_an_image(trained: Path, data: Path, tmp_path: Path) -> None:
    words = ['photo.jpg', 'small.py', 'run/epoch_2.pth', '--resolutions', '16', '40', '64']
    out = tmp_path / 'mean.png'
    result = succeed(run_on(trained, data, ATTENTION, *words, '--out', out))
    assert f'picture: {out}' in result.stdout
    mean = picture(out)
    out = tmp_path / 'head.png'
    options = ['--block', 0, '--head', 1, '--point', 0.1, 0.9, '--title', '']
    options += ['--cfg-options', 'test_dataloader.dataset.pipeline.1.crop_pct=1.0']
    succeed(run_on(trained, data, ATTENTION, *words, *options, '--out', out))
    assert picture(out).tobytes() != mean.tobytes()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(image='broken.jpg'), ['cannot read the image broken.jpg']),
        (dict(image='gone.jpg'), ['cannot read the image gone.jpg']),
        (dict(config='table.py'), ['run/epoch_2.pth does not fit']),
        (dict(checkpoint='photo.jpg'), ['photo.jpg', 'not a PyTorch checkpoint']),
        (dict(resolutions=['64', '15']), ['15 x 15 pixels is smaller than one patch of 16 x 16']),
        (dict(resolutions=['64', '64']), ['names a resolution twice']),
        (dict(more=['--head', '2']), ['no head 2', '0 to 1']),
        (dict(more=['--head', 'max']), ["--head max", "'mean'"]),
        (dict(out='no.txt'), ['unsupported image format no.txt', '.png']),
    ],
    ids=lambda value: str(*value.values()) if isinstance(value, dict) else None,
)  # fmt: skip
def test_what_has_no_attention_picture(trained: Path, data: Path, change: dict, message: list) -> None:
    (trained / 'broken.jpg').write_bytes((trained / 'photo.jpg').read_bytes()[:-1000])
    plain = dict(
        image='photo.jpg', config='small.py', checkpoint='run/epoch_2.pth', resolutions=['64'], out='no.png'
    )
    chosen = {**plain, **change}
    words = [chosen[key] for key in ('image', 'config', 'checkpoint')]
    words += ['--resolutions', *chosen['resolutions'], *chosen.get('more', []), '--out', chosen['out']]
    fail(run_on(trained, data, ATTENTION, *words), *message)
    assert not (trained / 'no.png').exists()


def test_training_curves(trained: Path, data: Path, tmp_path: Path) -> None:
    assert len(list((trained / 'run').glob('*/vis_data/scalars.json'))) == 2
    out = tmp_path / 'curves.png'
    words = ['run', '--keys', 'loss_*', '*/accuracy/top1', '--title', 'Two runs', '--smooth', 2]
    result = succeed(run_on(trained, data, LOGS, 'plot_curve', *words, '--x-axis', 'epoch', '--out', out))
    assert f'picture: {out}' in result.stdout
    picture(out)
    single = next(iter((trained / 'run').glob('*/vis_data/scalars.json')))
    words = ['plot_curve', 'run', single, '--legend', 'whole', 'part', '--out', tmp_path / 'two.png']
    succeed(run([sys.executable, ROOT / 'tools' / LOGS, *words], data, trained))
    picture(tmp_path / 'two.png')


def test_training_time(trained: Path, data: Path) -> None:
    result = succeed(run_on(trained, data, LOGS, 'cal_train_time', 'run', '--include-outliers'))
    times = [line['time'] for line in scalars(trained / 'run') if 'loss' in line]
    assert len(times) == 4
    assert f'average: {np.mean(times):.4f} s/iter' in result.stdout
    assert 'run, 2 runs' in result.stdout


def test_bad_logs(trained: Path, data: Path, tmp_path: Path) -> None:
    plot = ['plot_curve', 'run', '--out', tmp_path / 'no.png']
    fail(
        run_on(trained, data, LOGS, *plot, '--keys', 'acc'),
        "does not have 'acc'; it has:",
        'loss_cls_64',
        '48/accuracy/top1',
    )
    fail(run_on(trained, data, LOGS, *plot, '--smooth', '0'), 'cannot smooth over 0')
    fail(run_on(trained, data, LOGS, *plot, '--legend', 'a', 'b'), 'legend has 2 names for 1 curves')
    log = tmp_path / 'scalars.json'
    log.write_text(json.dumps(dict(step=1, iter=1, loss=1.0)) + '\n{"step": 2, "it')
    for task in (['plot_curve', log, '--out', tmp_path / 'no.png'], ['cal_train_time', log]):
        fail(run_on(trained, data, LOGS, *task), f'{log}, line 2 is damaged')
    fail(run_on(trained, data, LOGS, 'cal_train_time', 'gone'), 'there is no log gone')
    assert not (tmp_path / 'no.png').exists()


def test_diagnosis_of_two_models(trained: Path, data: Path, tmp_path: Path) -> None:
    words = [
        'small.py',
        'run/epoch_2.pth',
        '--baseline',
        'small.py',
        'run/epoch_1.pth',
        '--names',
        'two',
        'one',
    ]
    words += ['--resolutions', 32, 64, 96, '--max-images', 8, '--attention-images', 4, '--out-dir', tmp_path]
    result = succeed(run_on(trained, data, DIAGNOSIS, *words))
    assert 'Points of accuracy lost, by cause' in result.stdout
    for part in ('causes', 'calibration', 'attention', 'features'):
        assert f'{tmp_path / part}.csv' in result.stdout
        lines = (tmp_path / f'{part}.csv').read_text().splitlines()
        assert {line.partition(',')[0] for line in lines[1:]} == {'two', 'one'}
        picture(tmp_path / f'{part}.png')
    fail(run_on(trained, data, DIAGNOSIS, *words[:2], '--resolutions', 8), 'smaller than one patch')
    fail(run_on(trained, data, DIAGNOSIS, *words, '--names', 'two'), '1 names for 2 models')
