"""``tools/deployment``: the files that a user gets, the printed table, the document's snippet, mistakes."""

from __future__ import annotations

import importlib.util
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from PIL import Image
from runs import ROOT, run_tool, succeed, write_config
from torch.torch_version import TorchVersion

from resformer_mm.apis import enter_scope, load_model, read_config
from resformer_mm.deployment import DeployableModel
from resformer_mm.deployment.formats import ONNX_VERSION, PROGRAM_VERSION
from resformer_mm.deployment.runtimes import load_file

ONNX, PROGRAM = 'deployment/export_onnx.py', 'deployment/export_program.py'
exports = pytest.mark.skipif(
    torch.__version__ < PROGRAM_VERSION, reason=f'files for all sizes need PyTorch {PROGRAM_VERSION}'
)
CLASSES = [f'kind {index}' for index in range(10)]


def write_checkpoint(config: Path, path: Path) -> None:
    """Write the weights of a fresh model, as a training run does."""
    cfg = read_config(config)
    enter_scope(cfg)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'position' in name or 'head' in name:
                parameter.normal_(std=0.5)
    torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': {'classes': CLASSES}}}, path)


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and a checkpoint of it."""
    folder = tmp_path_factory.mktemp('trained')
    write_checkpoint(write_config(folder / 'small.py'), folder / 'small.pth')
    return folder


def rows(output: str) -> list[tuple[int, int, int, float]]:
    """Return the printed table: images, height, width, difference."""
    found = re.findall(r'^ +(\d+) +(\d+) +(\d+) +(\S+) +\S+$', output, re.MULTILINE)
    return [(int(batch), int(height), int(width), float(value)) for batch, height, width, value in found]


def snippets() -> list[str]:
    text = (ROOT / 'docs' / 'deployment.md').read_text()
    return re.findall(r'```python\n(.*?)```', text, re.DOTALL)


def call(
    name: str, *words: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> tuple[int, str, str]:
    """Run a tool in this process; return its exit code, stdout and stderr."""
    tool = ROOT / 'tools' / name
    monkeypatch.setattr('sys.argv', [str(tool), *(str(word) for word in words)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(tool), run_name='__main__')
    return stop.value.code, *capsys.readouterr()


@exports
@pytest.mark.slow
def test_both_files_and_the_snippets_of_the_document(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """What the document shows runs, and gives what evaluation gives for the same picture."""
    inputs = [trained / 'small.py', trained / 'small.pth']
    sizes = ['--verify-sizes', '16', '37x53', '96x32']
    onnx = succeed(run_tool(ONNX, *inputs, '--out', 'new/model.onnx', *sizes, data=tmp_path, cwd=tmp_path))
    code, program, error = call(PROGRAM, *inputs, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0 and not error.strip() and not onnx.stderr.strip()
    assert [row[:3] for row in rows(onnx.stdout)] == [(1, 16, 16), (2, 37, 53), (5, 96, 32)]
    assert len({row[1:3] for row in rows(program)}) >= 10
    assert all(row[3] < 1e-4 for row in rows(onnx.stdout) + rows(program))
    assert 'written: new/model.onnx' in onnx.stdout and f'written: {trained}/small.pt2' in program

    (tmp_path / 'new' / 'model.onnx').rename(tmp_path / 'model.onnx')
    (trained / 'small.pt2').rename(tmp_path / 'model.pt2')
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((300, 200)).save(tmp_path / 'photo.jpg')
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    exec(snippets()[0], namespace)
    exec(snippets()[1], program_namespace := dict(namespace))

    picture = Image.open(tmp_path / 'photo.jpg').convert('RGB').resize((160, 96))
    bgr = torch.from_numpy(np.asarray(picture)[..., ::-1].copy()).permute(2, 0, 1)
    model = load_model(*inputs, device='cpu')
    with torch.no_grad():
        expected = model(**model.data_preprocessor({'inputs': [bgr]}), mode='tensor')
    assert namespace['batch'].shape == (1, 3, 96, 160)
    np.testing.assert_allclose(namespace['logits'], expected.numpy(), rtol=0, atol=1e-5)
    torch.testing.assert_close(program_namespace['logits'], expected, rtol=0, atol=1e-5)
    assert capsys.readouterr().out.strip() == CLASSES[expected.argmax()]


@exports
@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--verify-sizes', '32', '8x64'], 'size 8x64 is smaller than one patch of 16x16 pixels'),
        (['--verify-sizes', '32x'], "'32x' is not a size: give pixels, e.g. 224 or (height x width) 224x320"),
        (['--verify-sizes', '32', '--no-verify'], '--no-verify and --verify-sizes exclude each other'),
        (['--out', '{folder}/small.py/model.onnx'], '--out {folder}/small.py/model.onnx: '),
        (['--out', '{folder}'], '--out {folder}: {folder} is a folder: name the file'),
        (['--out', '{folder}/small.pth'], 'small.pth would replace the config or the checkpoint'),
        (['--opset', '12'], 'opset 12 is not supported: choose from 18 to 25'),
        (['--device', 'toaster'], "argument --device: the device 'toaster' cannot be used: "),
        (['--cfg-options', 'model.backbone.arch.embed_dims=48'], 'small.pth'),
        (
            ['--cfg-options', 'model.backbone.arch.num_layers=3'],
            'small.pth does not fit the model of the config',
        ),
        (['--cfg-options', 'model.data_preprocessor.pad_size_divisor=32'], 'pads images'),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else '',
)
def test_mistakes_end_with_code_2_and_say_what_is_wrong(
    words: list[str], message: str, trained: Path, monkeypatch, capsys
) -> None:
    before = sorted(trained.iterdir())
    words = [word.format(folder=trained) for word in words]
    code, _, error = call(
        ONNX, trained / 'small.py', trained / 'small.pth', *words, monkeypatch=monkeypatch, capsys=capsys
    )
    assert code == 2 and message.format(folder=trained) in error and 'Traceback' not in error
    assert sorted(trained.iterdir()) == before


@exports
@pytest.mark.parametrize('missing', ['nothing.py', 'nothing.pth'])
def test_missing_files(missing: str, trained: Path, monkeypatch, capsys) -> None:
    files = [trained / ('nothing.py' if missing == 'nothing.py' else 'small.py'), trained / 'nothing.pth']
    code, _, error = call(PROGRAM, *files, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2 and missing in error


@exports
def test_a_missing_package_names_the_extra(trained: Path, monkeypatch, capsys) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name, *rest: None if name == 'onnx' else find_spec(name, *rest)
    )
    inputs = [trained / 'small.py', trained / 'small.pth']
    code, _, error = call(ONNX, *inputs, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2 and "pip install 'resformer-mm[deployment]'" in error


@exports
@pytest.mark.slow
def test_a_file_that_differs_ends_with_code_1_unless_nobody_compares(
    trained: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    predict = DeployableModel.predict_as_trained
    monkeypatch.setattr(DeployableModel, 'predict_as_trained', lambda *args: predict(*args) + 2e-3)
    inputs, out = [trained / 'small.py', trained / 'small.pth'], tmp_path / 'model.pt2'
    words = ['--out', out, '--verify-sizes', '32x48', '--tolerance']
    code, table, error = call(PROGRAM, *inputs, *words, 1e-3, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and '2.0e-03' in table and 'written' not in table
    assert 'model.pt2 was not written: at 32x48' in error and not list(tmp_path.iterdir())
    words = ['--out', out, '--no-verify']
    code, output, _ = call(PROGRAM, *inputs, *words, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0 and out.is_file()
    assert f'written: {out}' in output and 'not verified' in output and 'difference' not in output


@exports
@pytest.mark.slow
def test_files_in_sixteen_bits(trained: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """By the option or by the field of the config, over which the option wins."""
    inputs, field = [trained / 'small.py', trained / 'small.pth'], 'inference_dtype=float16'
    pixels = torch.randint(256, (2, 3, 32, 48), generator=torch.Generator().manual_seed(0)).float()
    calls = {
        'option.onnx': (ONNX, ['--dtype', 'float16']),
        'field.pt2': (PROGRAM, ['--cfg-options', field]),
        'both.pt2': (PROGRAM, ['--dtype', 'float32', '--cfg-options', field]),
    }
    outputs = {}
    for name, (tool, words) in calls.items():
        words = [*inputs, '--out', tmp_path / name, '--verify-sizes', '32x48', *words]
        code, _, error = call(tool, *words, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 0, error
        file = load_file(tmp_path / name)
        assert file.metadata.get('dtype', 'float32') == ('float32' if 'both' in name else 'float16')
        (outputs[name],) = file.run(pixels)
    exact = outputs.pop('both.pt2')
    for output in outputs.values():
        assert 1e-5 < (output - exact).norm() / exact.norm() < 0.02


@pytest.mark.parametrize(('tool', 'first'), [(ONNX, ONNX_VERSION), (PROGRAM, PROGRAM_VERSION)])
def test_a_version_of_pytorch_that_cannot_export(tool, first, trained, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch, '__version__', TorchVersion('2.1.2'))
    inputs = [trained / 'small.py', trained / 'small.pth']
    code, _, error = call(tool, *inputs, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2 and f'need PyTorch {first} or later, this is 2.1.2' in error
