"""Integer files, and exported files in the sweep: their content, and that they are measured as models are."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import run_tool, succeed, write_config, write_data

from resformer_mm.apis import load_model
from resformer_mm.deployment import DeployableModel, OnnxFormat
from resformer_mm.deployment.calibration import CalibrationImages
from resformer_mm.deployment.formats import PROGRAM_VERSION
from resformer_mm.deployment.runtimes import load_file

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.__version__ < PROGRAM_VERSION, reason=f'needs PyTorch {PROGRAM_VERSION}'),
]
QUANTIZE, SWEEP = 'deployment/quantize_onnx.py', 'analysis_tools/resolution_sweep.py'
PARTS = ['attention', 'depthwise', 'last_layer', 'patch_embedding']


def save(config: Path, path: Path, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = load_model(config, device='cpu')
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'position' in name or 'head' in name:
                parameter.normal_(std=0.3)
    torch.save({'state_dict': model.state_dict()}, path)
    return model


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a config, a checkpoint, its ONNX file, and an integer file of it."""
    folder = tmp_path_factory.mktemp('exported')
    write_data(folder / 'data')
    config = write_config(folder / 'tiny.py')
    model = save(config, folder / 'tiny.pth', 0)
    OnnxFormat().write(DeployableModel(model), folder / 'model.onnx')
    words = ('tiny.py', 'model.onnx', '--images', 12, '--resolutions', 64, 32)
    result = succeed(run_tool(QUANTIZE, *words, data=folder / 'data', cwd=folder))
    assert '12 images of train at [32, 64] pixels' in result.stdout
    assert 'written: model.int8.onnx' in result.stdout
    return folder


def entries(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_weights_are_rounded_to_the_scale_of_their_channel(folder: Path) -> None:
    model = load_model(folder / 'tiny.py', folder / 'tiny.pth', 'cpu')
    layers = {name: module for name, module in model.named_modules() if hasattr(module, 'weight')}
    expected = [
        layer.weight.detach().numpy()
        for name, layer in layers.items()
        if isinstance(layer, torch.nn.Linear) and not name.startswith('head')
    ]
    file = onnx.load(folder / 'model.int8.onnx')
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in file.graph.initializer}
    rounded = [
        (tensors[node.input[0]], tensors[node.input[1]], onnx.helper.get_node_attr_value(node, 'axis'))
        for node in file.graph.node
        if node.op_type == 'DequantizeLinear'
        and node.input[0] in tensors
        and tensors[node.input[0]].dtype == np.int8
    ]
    # The last block computes queries for one token alone, so its projection is cut into two.
    assert len(rounded) == len(expected) + 1
    for quantized, scale, axis in rounded:
        weights = np.moveaxis(quantized.astype(np.float32), axis, 0) * scale[:, None]
        assert abs(quantized).max() == 127
        rows = np.concatenate([weight for weight in expected if weight.shape[1] == weights.shape[1]])
        for row, step in zip(weights, scale):
            assert abs(rows - row).max(axis=1).min() <= 0.501 * step
    assert (folder / 'model.int8.onnx').stat().st_size < 0.75 * (folder / 'model.onnx').stat().st_size
    names = {tensor.name for tensor in file.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    assert {'model.head.fc.weight', 'model.backbone.patch_embed.proj.weight'} <= names


def test_what_an_integer_file_says_of_itself(folder: Path) -> None:
    before, after = entries(folder / 'model.onnx'), entries(folder / 'model.int8.onnx')
    quantization = json.loads(after.pop('quantization'))
    assert after == before
    assert quantization['images'] == 12 and quantization['split'] == 'train'
    assert quantization['resolutions'] == [32, 64] and quantization['calibration'] == 'minmax'
    assert quantization['float32'] == PARTS


def test_an_integer_file_takes_any_size_and_agrees(folder: Path) -> None:
    original, quantized = load_file(folder / 'model.onnx'), load_file(folder / 'model.int8.onnx')
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 3, 16, 16), (5, 3, 37, 90), (2, 3, 100, 16)):
        image = torch.randint(256, shape, generator=generator).float()
        (expected,), (output,) = original.run(image), quantized.run(image)
        difference = (output - expected).abs().max() / expected.abs().max()
        assert 0 < difference < 0.25  # noise is beyond the calibrated range


def test_calibration_images_are_training_images_in_rgb(folder: Path, monkeypatch) -> None:
    monkeypatch.setenv('MINI_DATA_ROOT', str(folder / 'data'))
    model = load_model(folder / 'tiny.py', device='cpu')
    images = CalibrationImages.of_config(model.cfg, DeployableModel(model), [48, 32], number=3)
    assert len(images) == 6 and list(images.loaders) == [32, 48] and images.indices == (0, 8, 15)
    files = sorted((folder / 'data' / 'train').glob('*/*.png'))
    for resolution in (32, 48):
        for index, image in zip(images.indices, images.at(resolution)):
            assert image.shape == (1, 3, resolution, resolution) and image.dtype == torch.float32
            label = int(files[index].parent.name.rpartition('_')[2])
            colour = torch.tensor([25.0 * label, 250.0 - 25 * label, 60.0 * (label % 4)])
            assert (image.mean((0, 2, 3)) - colour).abs().max() < 15


@pytest.fixture(scope='module')
def swept(folder: Path) -> str:
    words = ['tiny.py', 'tiny.pth', '--exported', 'model.onnx', 'model.int8.onnx']
    words += ['--resolutions', 32, 64, '--rounds', 1, '--out-dir', 'out']
    return succeed(run_tool(SWEEP, *words, data=folder / 'data', cwd=folder)).stdout


def test_a_sweep_measures_files_like_the_checkpoint(folder: Path, swept: str) -> None:
    with open(folder / 'out' / 'sweep.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    names = ['tiny', 'model', 'model.int8']
    assert [(row['model'], row['resolution']) for row in rows] == [
        (name, size) for name in names for size in ('32', '64')
    ]
    for column in ('accuracy/top1', 'gflops', 'parameters', 'samples'):
        assert [row[column] for row in rows[:2]] == [row[column] for row in rows[2:4]]
    assert [row['peak_memory_mib'] == '' for row in rows] == [False, False, True, True, True, True]
    sizes = [f'{(folder / f"{name}.onnx").stat().st_size / 2**20:.2f}' for name in names[1:]]
    assert [row['file_mib'] for row in rows] == ['', '', sizes[0], sizes[0], sizes[1], sizes[1]]
    assert all(float(row['latency_ms']) > 0 for row in rows)
    # The confidence of every image, not only the fraction of right ones.
    for size in (32, 64):
        first, second, third = (
            np.load(folder / 'out' / 'outcomes' / name / f'{size}.npz')['confidence'] for name in names
        )
        np.testing.assert_allclose(second, first, atol=1e-5)
        assert 1e-5 < abs(third - first).max() < 0.1
    assert 'model.int8.onnx in onnxruntime' in swept
    page = (folder / 'out' / 'sweep.html').read_text()
    assert '"memory_mib": null' in page and 'NaN' not in page.partition('application/json">')[2][:20000]


def test_a_changed_file_is_refused(folder: Path, swept: str, tmp_path: Path) -> None:
    shutil.copy(folder / 'model.int8.onnx', tmp_path / 'model.onnx')
    words = ['tiny.py', 'tiny.pth', '--exported', tmp_path / 'model.onnx', '--resolutions', 32]
    result = run_tool(SWEEP, *words, '--out-dir', 'out', data=folder / 'data', cwd=folder)
    assert result.returncode == 2 and "of another 'model': its config, checkpoint, exp" in result.stderr


def test_mistakes_in_a_sweep(folder: Path, tmp_path: Path) -> None:
    save(folder / 'tiny.py', tmp_path / 'other.pth', seed=1)
    (tmp_path / 'noise.onnx').write_bytes(b'nothing')
    foreign = onnx.load(folder / 'model.onnx')
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / 'foreign.onnx')

    def error(*words: object, checkpoint: object = 'tiny.pth') -> str:
        words = ('tiny.py', checkpoint, '--resolutions', 32, '--out-dir', tmp_path / 'out', *words)
        result = run_tool(SWEEP, *words, data=folder / 'data', cwd=folder)
        assert result.returncode == 2 and 'Traceback' not in result.stderr
        return result.stderr

    onnx_file = ('--exported', 'model.onnx')
    assert 'model.onnx is of another checkpoint' in error(*onnx_file, checkpoint=tmp_path / 'other.pth')
    assert 'there is no exported file absent.onnx' in error('--exported', 'absent.onnx')
    assert 'noise.onnx cannot be run by onnxruntime' in error('--exported', tmp_path / 'noise.onnx')
    assert 'has no resformer_mm_version' in error('--exported', tmp_path / 'foreign.onnx')
    assert 'cannot be run by torch: choose from onnxruntime' in error(*onnx_file, '--runtime', 'torch')
    assert '--runtime is for --exported' in error('--runtime', 'torch')
    assert 'give one that ends in .onnx or .pt2' in error('--exported', 'tiny.pth')
    assert '(--dtype, --amp) does not apply to --exported' in error(*onnx_file, '--amp')


def test_mistakes_in_a_quantisation(folder: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / 'seven.py', "model['head']['num_classes'] = 7")
    untrained = write_config(tmp_path / 'untrained.py', 'train_dataloader = train_cfg = optim_wrapper = None')

    def error(*words: object) -> str:
        result = run_tool(QUANTIZE, *words, '--out', tmp_path / 'x.onnx', data=folder / 'data', cwd=folder)
        assert result.returncode == 2 and 'Traceback' not in result.stderr
        assert not (tmp_path / 'x.onnx').exists()
        return result.stderr

    assert 'has been quantised already' in error('tiny.py', 'model.int8.onnx')
    assert 'gives [(1, 10)], PyTorch [(1, 7)])' in error(config, 'model.onnx')
    assert 'has no train_dataloader to calibrate with' in error(untrained, 'model.onnx')
    assert 'there is no exported file absent.onnx' in error('tiny.py', 'absent.onnx')
    assert '--images must be at least 1' in error('tiny.py', 'model.onnx', '--images', 0)
    assert 'resolutions are positive integers' in error('tiny.py', 'model.onnx', '--resolutions', -4)


@pytest.mark.parametrize('size', [(16, 16), (37, 90)])
def test_openvino_gives_the_outputs_of_onnxruntime(folder: Path, size: tuple[int, int]) -> None:
    if importlib.util.find_spec('openvino') is None:
        pytest.skip('OpenVINO is not installed')
    image = torch.randint(256, (2, 3, *size), generator=torch.Generator().manual_seed(0)).float()
    (expected,) = load_file(folder / 'model.onnx', 'onnxruntime').run(image)
    (output,) = load_file(folder / 'model.onnx', 'openvino', threads=1).run(image)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-4)
