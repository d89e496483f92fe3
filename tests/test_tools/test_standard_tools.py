"""get_flops, browse_dataset, print_config and publish_model, from the command line."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from runs import CONFIG, ROOT, run_tool, succeed, write_config, write_data

from resformer_mm.apis import load_model

FLOPS = 'analysis_tools/get_flops.py'
BROWSE = 'analysis_tools/browse_dataset.py'
PRINT = 'misc/print_config.py'
PUBLISH = 'model_converters/publish_model.py'


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), 12, 4, 4)


@pytest.fixture
def config(tmp_path) -> Path:
    return write_config(tmp_path / 'small.py')


def fail(result: subprocess.CompletedProcess, *words: str) -> None:
    """Check for a message instead of a traceback."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert 'Traceback' not in result.stderr
    for word in words:
        assert word in result.stderr.splitlines()[-1], result.stderr


def test_flops_of_several_resolutions(config, data, tmp_path):
    result = succeed(
        run_tool(FLOPS, config, '--resolutions', 64, 40, '--out', 'flops.csv', data=data, cwd=tmp_path)
    )
    header, ruler, *rows = (line for line in result.stdout.splitlines() if line.startswith('|'))
    assert [cell.strip() for cell in header.strip('|').split('|')][:3] == [
        'resolution',
        'parameters',
        'GFLOPs',
    ]
    assert set(ruler) == set('|-') and len(rows) == 2
    assert 'not counted' not in result.stderr
    with open(tmp_path / 'flops.csv', newline='') as file:
        lines = list(csv.DictReader(file))
    assert [line['resolution'] for line in lines] == ['64', '40']
    width, patches = 32, [16, 9]  # 40 pixels are padded to 3 patches of 16
    for line, grid, row in zip(lines, patches, rows):
        assert int(line['patch embedding']) == grid * 3 * 16 * 16 * width
        assert int(line['attention']) == 2 * (grid + 1) ** 2 * width + 2 * (grid + 1) * width
        assert int(line['global position']) == int(line['local position']) == grid * width * 9
        assert int(line['head']) == 10 * width
        parts = list(line.values())[3:]
        assert sum(map(int, parts)) == int(line['multiply-adds'])
        assert f'{int(line["multiply-adds"]) / 1e9:#.4g}' in row
    model = load_model(Config.fromfile(config), device='cpu')
    assert int(lines[0]['parameters']) == sum(parameter.numel() for parameter in model.parameters())


def test_flops_of_a_rectangle_by_module(config, data, tmp_path):
    command = [FLOPS, config, '--shape', 48, 80, '--show-table', '--show-arch']
    result = succeed(run_tool(*command, data=data, cwd=tmp_path))
    assert '48x80' in result.stdout and '48 x 80 pixels' in result.stdout
    assert 'backbone.patch_embed.proj' in result.stdout  # the table
    assert '(patch_embed): PatchEmbed(' in result.stdout  # the architecture


def test_flops_without_options_are_those_of_the_test_resolutions(config, data, tmp_path):
    options = ['--cfg-options', 'test_cfg.resolutions=[32,96]', 'model.backbone.patch_size=8']
    result = succeed(run_tool(FLOPS, config, *options, data=data, cwd=tmp_path))
    rows = [line.split('|')[1].strip() for line in result.stdout.splitlines() if line.startswith('|')]
    assert rows[2:] == ['32', '96']


def test_flops_of_what_cannot_be_counted(config, data, tmp_path):
    fail(
        run_tool(FLOPS, config, '--resolutions', 64, 15, data=data, cwd=tmp_path),
        '15 x 15 pixels is smaller than one patch of 16 x 16',
    )
    fail(run_tool(FLOPS, config, '--shape', 0, data=data, cwd=tmp_path), '0 x 0', 'positive')
    fail(run_tool(FLOPS, config, '--shape', 1, 2, 3, data=data, cwd=tmp_path), '--shape 1 2 3')
    fail(run_tool(FLOPS, tmp_path / 'none.py', data=data, cwd=tmp_path), 'there is no config', 'none.py')
    (tmp_path / 'empty.py').write_text('max_epochs = 3\n')
    fail(run_tool(FLOPS, tmp_path / 'empty.py', data=data, cwd=tmp_path), 'empty.py has no `model`')


def test_browse_writes_pictures_of_the_copies(config, data, tmp_path):
    command = [BROWSE, config, '--output-dir', 'pictures', '--show-number', 3, '--not-show']
    succeed(run_tool(*command, data=data, cwd=tmp_path))
    files = sorted((tmp_path / 'pictures').iterdir())
    assert len(files) == 3
    for number, file in enumerate(files):
        index, _, name = file.stem.partition('_')
        assert int(index) == number
        (source,) = (data / 'train').glob(f'*/{name}.png')
        shown = np.asarray(Image.open(source)).repeat(4, axis=0).repeat(4, axis=1)
        picture = np.asarray(Image.open(file))
        top, left = (int(places[0]) for places in np.nonzero((picture == shown[0, 0]).all(axis=-1)))
        np.testing.assert_array_equal(picture[top : top + 256, left : left + 256], shown)
    again = [*command[:3], 'again', *command[4:], '--seed', 1]
    succeed(run_tool(*again, data=data, cwd=tmp_path))
    assert {file.stem[4:] for file in files} != {file.stem[4:] for file in (tmp_path / 'again').iterdir()}


def test_browse_without_anywhere_to_show(config, data, tmp_path, monkeypatch):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    fail(run_tool(BROWSE, config, '--not-show', data=data, cwd=tmp_path), '--output-dir')
    options = ['-o', tmp_path / 'out', '-p', 'val', '-n', 1]
    fail(
        run_tool(BROWSE, config, *options, '--cfg-options', 'val_dataloader=None', data=data, cwd=tmp_path),
        'has no `val_dataloader`',
    )
    fail(run_tool(BROWSE, config, *options, data=tmp_path / 'no_data', cwd=tmp_path), 'no_data', 'data_root')


def test_printed_config_is_a_config(config, data, tmp_path):
    options = ['--cfg-options', 'model.backbone.arch.embed_dims=64', 'val_cfg.resolutions=[96,64]']
    result = succeed(run_tool(PRINT, CONFIG, *options, '--save-path', 'made/c.py', data=data, cwd=tmp_path))
    text = (tmp_path / 'made' / 'c.py').read_text()
    assert text.strip() == result.stdout.strip()
    cfg = Config.fromfile(tmp_path / 'made' / 'c.py')
    assert cfg.model.backbone.arch.embed_dims == 64 and cfg.val_cfg.resolutions == [96, 64]
    assert cfg.train_dataloader.dataset.data_root == str(data)
    cfg.model.backbone.arch.embed_dims, cfg.val_cfg.resolutions = 128, [64, 48, 32]
    expected = Config.fromfile(CONFIG)
    for path in ('train', 'val', 'test'):
        expected[f'{path}_dataloader'].dataset.data_root = str(data)
    expected.data_root = str(data)
    expected.folder.data_root = str(data)
    assert cfg.to_dict() == expected.to_dict()
    fail(run_tool(PRINT, CONFIG, '--save-path', 'c.txt', data=data, cwd=tmp_path), 'c.txt', '.yml')
    fail(run_tool(PRINT, 'none.py', data=data, cwd=tmp_path), 'there is no config none.py')
    (tmp_path / 'bad.py').write_text('model = dict(\n')
    fail(run_tool(PRINT, 'bad.py', data=data, cwd=tmp_path), 'bad.py', 'SyntaxError')
    bad = ['--cfg-options', 'val_cfg.resolutions.7=3']
    fail(run_tool(PRINT, CONFIG, *bad, data=data, cwd=tmp_path), 'Index 7 exceeds')


def test_publishing(data, tmp_path):
    state = {'w': torch.ones(3)}
    torch.save({'state_dict': state, 'optimizer': {'lr': 1}, 'meta': {'cfg': 'x'}}, tmp_path / 'epoch_1.pth')
    result = succeed(run_tool(PUBLISH, 'epoch_1.pth', 'out/m.pth', data=data, cwd=tmp_path))
    (path,) = (tmp_path / 'out').iterdir()
    assert f'written: out/{path.name}' in result.stdout
    assert 'dropped optimizer: ' in result.stdout and 'dropped meta.cfg: ' in result.stdout
    assert torch.equal(torch.load(path, weights_only=True)['state_dict']['w'], state['w'])
    fail(run_tool(PUBLISH, 'none.pth', 'out.pth', data=data, cwd=tmp_path), 'none.pth does not exist')
    keys = ['--save-keys', 'ema_state_dict']
    fail(
        run_tool(PUBLISH, 'epoch_1.pth', 'm', *keys, data=data, cwd=tmp_path),
        "'ema_state_dict'",
        '--save-keys',
    )
    (tmp_path / 'half.pth').write_bytes((tmp_path / 'epoch_1.pth').read_bytes()[:99])
    fail(run_tool(PUBLISH, 'half.pth', 'out.pth', data=data, cwd=tmp_path), 'half.pth is corrupt')


@pytest.mark.parametrize('tool', [FLOPS, BROWSE, PRINT, PUBLISH])
def test_help(tool, data, tmp_path):
    assert f'usage: {Path(tool).name}' in succeed(run_tool(tool, '--help', data=data, cwd=tmp_path)).stdout
    assert (ROOT / 'tools' / tool).is_file()
