"""The sweep and the fit of a cascade from the command line."""

from __future__ import annotations

import csv
import json
import re
import runpy
from pathlib import Path

import pytest
import torch
from runs import run_tool, succeed, write_config, write_data

from resformer_mm.apis import load_model
from resformer_mm.engine.precision import half_pays

SWEEP = 'analysis_tools/resolution_sweep.py'
FIT = 'analysis_tools/fit_cascade.py'


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> tuple[Path, Path]:
    """A small config and a checkpoint with random weights that tell classes by colour a little."""
    folder = tmp_path_factory.mktemp('model')
    config = write_config(folder / 'tiny.py')
    return config, save(config, folder / 'tiny.pth')


def save(config: Path, path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    torch.save({'state_dict': load_model(config, device='cpu').state_dict()}, path)
    return path


@pytest.fixture(scope='module')
def swept(data: Path, model, tmp_path_factory) -> tuple[Path, str]:
    """A sweep of two models, after one of the first model alone at fewer resolutions."""
    cwd = tmp_path_factory.mktemp('sweep')
    baseline = save(model[0], cwd / 'other.pth', seed=1)
    first = succeed(
        run_tool(
            SWEEP, *model, '--resolutions', 48, 32, '--out-dir', 'out', '--rounds', 1, data=data, cwd=cwd
        )
    )
    assert 'tiny at 48' in first.stdout
    before = json.loads((cwd / 'out' / 'sweep.json').read_text())['models'][0]['points']
    second = run_tool(
        SWEEP, *model, '--baseline', model[0], baseline, '--resolutions', 64, 32, 48, '--out-dir', 'out',
        '--rounds', 2, data=data, cwd=cwd,
    )  # fmt: skip
    after = json.loads((cwd / 'out' / 'sweep.json').read_text())['models'][0]['points']
    succeed(second)
    for resolution, point in before.items():
        assert after[resolution]['metrics'] == point['metrics']
        assert after[resolution]['latency'][:1] == point['latency']
    assert '2 of 6 evaluations were finished before' in second.stdout
    assert 'tiny at 48' not in second.stdout and 'tiny at 64' in second.stdout
    return cwd, second.stdout


@pytest.mark.slow
def test_a_sweep_goes_on_and_reports_everything(swept, data: Path, model) -> None:
    cwd, output = swept
    out = cwd / 'out'
    assert {path.name for path in out.iterdir()} >= {'sweep.json', 'sweep.csv', 'sweep.png', 'sweep.html'}
    with open(out / 'sweep.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['model'], row['resolution']) for row in rows] == [
        (name, resolution) for name in ('tiny', 'tiny (2)') for resolution in ('32', '48', '64')
    ]
    assert re.search(r'^tiny +64 ', output, re.MULTILINE)
    for row in rows:
        assert float(row['latency_ms']) > 0 and float(row['peak_memory_mib']) > 0
        assert int(row['parameters']) == sum(p.numel() for p in load_model(model[0]).parameters())
    gflops = [float(row['gflops']) for row in rows]
    assert gflops[:3] == sorted(gflops[:3]) and gflops[:3] == gflops[3:]
    # tools/test.py evaluates alike.
    arguments = ('test.py', *model, '--resolutions', 48, '--out', 'metrics.json', '--out-item', 'metrics')
    succeed(run_tool(*arguments, '--work-dir', 'test', data=data, cwd=cwd))
    expected = json.loads((cwd / 'metrics.json').read_text())['48/accuracy/top1']
    assert float(rows[1]['accuracy/top1']) == pytest.approx(expected)


@pytest.mark.slow
def test_another_checkpoint_under_the_same_name_is_refused(swept, data: Path, model) -> None:
    cwd, _ = swept
    other = cwd / 'other.pth'
    result = run_tool(SWEEP, model[0], other, '--resolutions', 32, '--out-dir', 'out', data=data, cwd=cwd)
    assert result.returncode == 2
    assert "holds figures of another 'tiny'" in result.stderr


@pytest.mark.slow
def test_a_sweep_in_16_bits(swept, data: Path, model) -> None:
    cwd, _ = swept
    arguments = [SWEEP, *model, '--resolutions', 32, '--rounds', 1, '--dtype', 'bfloat16', '--out-dir']
    succeed(run_tool(*arguments, 'half', data=data, cwd=cwd))
    with open(cwd / 'half' / 'sweep.csv', newline='') as file:
        [row] = csv.DictReader(file)
    with open(cwd / 'out' / 'sweep.csv', newline='') as file:
        whole = next(csv.DictReader(file))
    native = half_pays('bfloat16', 'cpu', 'this test')
    assert row['precision'] == ('bfloat16' if native else 'float32') and whole['precision'] == 'float32'
    assert row['gflops'] == whole['gflops'] and row['parameters'] == whole['parameters']
    if native:
        result = run_tool(*arguments, 'out', data=data, cwd=cwd)
        assert result.returncode == 2
        assert "precision: 'float32' then, 'bfloat16' now" in result.stderr


def bad(data: Path, cwd: Path, *arguments: object, tool: str = SWEEP) -> str:
    result = run_tool(tool, *arguments, data=data, cwd=cwd)
    assert result.returncode == 2
    assert 'Traceback' not in result.stderr
    return result.stderr


@pytest.mark.slow
def test_bad_input(data: Path, model, tmp_path: Path) -> None:
    config, checkpoint = model
    assert 'there is no config' in bad(data, tmp_path, 'absent.py', checkpoint, '--resolutions', 32)
    assert 'there is no checkpoint' in bad(data, tmp_path, config, 'absent.pth', '--resolutions', 32)
    assert '--names: 1 different names' in bad(data, tmp_path, config, checkpoint, '--names', 'a', 'b')
    words = bad(data, tmp_path, config, checkpoint, '--resolutions', 32, -5)
    assert '-5' in words and 'positive' in words
    words = bad(data, tmp_path, config, checkpoint, '--resolutions', 8)
    assert 'image of 8 x 8 pixels is smaller than one patch of 16 x 16' in words
    foreign = write_config(tmp_path / 'foreign.py', "model['head']['num_classes'] = 7")
    words = bad(data, tmp_path, config, save(foreign, tmp_path / 'foreign.pth'), '--resolutions', 32)
    assert 'head.fc.weight has shape (7, 32), the model needs (10, 32)' in words
    (tmp_path / 'broken.pth').write_bytes(b'nothing')
    assert 'broken.pth is corrupt' in bad(
        data, tmp_path, config, tmp_path / 'broken.pth', '--resolutions', 32
    )
    assert '--metric mIoU' in bad(
        data, tmp_path, config, checkpoint, '--resolutions', 32, '--metric', 'mIoU', '--rounds', 1
    )


@pytest.mark.slow
def test_fitting_a_cascade_writes_a_config(data: Path, model, tmp_path: Path) -> None:
    arguments = ('--resolutions', 32, 64, '--out', 'cascade.py')
    result = succeed(run_tool(FIT, *model, *arguments, '--target-cost', 1, data=data, cwd=tmp_path))
    assert 'cascade, on unseen halves' in result.stdout
    written = runpy.run_path(str(tmp_path / 'cascade.py'))
    assert written['_base_'] == str(model[0])
    assert f'cascade = {written["cascade"]}' in result.stdout
    words = bad(data, tmp_path, *model, *arguments, '--target-accuracy', 101, tool=FIT)
    assert 'the best reaches' in words
    words = bad(data, tmp_path, *model, *arguments, '--target-cost', 1, '--confidence', 'luck', tool=FIT)
    assert "cascade.confidence='luck'" in words
