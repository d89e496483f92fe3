"""Exported files against PyTorch, at sizes that they were not exported with; and what is refused."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor, BaseModel, ImgDataPreprocessor
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from resformer_mm.deployment import (
    DeployableModel,
    Difference,
    ExportError,
    Normalization,
    OnnxFormat,
    ProgramFormat,
    check_sizes,
    compare,
    default_sizes,
    export,
    formats,
)
from resformer_mm.deployment.export import HALF_TOLERANCE
from resformer_mm.deployment.runtimes import load_file
from resformer_mm.models import ResFormer

PATCH = 16
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
MEAN, STD = (120.0, 110.0, 90.0), (60.0, 55.0, 50.0)
LEARNED = dict(type='LearnedPositionEmbedding', grid_size=3)
# One patch, rows and columns, rectangles both ways, odd sizes, the grid of the learned table.
SIZES = [
    (16, 16),
    (37, 53),
    (53, 37),
    (16, 112),
    (100, 16),
    (17, 16),
    (48, 48),
    (64, 96),
    (96, 64),
    (33, 47),
    (80, 80),
    (31, 130),
]
BATCHES = [1, 2, 5]
exports = pytest.mark.skipif(
    torch.__version__ < formats.PROGRAM_VERSION,
    reason=f'files for all sizes need PyTorch {formats.PROGRAM_VERSION}',
)


def backbone(**kwargs) -> ResFormer:
    """A backbone in which every position module matters."""
    torch.manual_seed(0)
    model = ResFormer(**{'arch': ARCH, 'patch_size': PATCH, **kwargs}).eval()
    return randomise(model)


def randomise(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'position' in name or 'head' in name:
                parameter.normal_(std=0.5, generator=generator)
    return model


def classifier(to_rgb: bool = True, **kwargs) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            data_preprocessor=dict(
                type='mmpretrain.ClsDataPreprocessor', mean=MEAN, std=STD, to_rgb=to_rgb, num_classes=7
            ),
            backbone=dict(type='resformer_mm.ResFormer', arch=ARCH, patch_size=PATCH, **kwargs),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=7, in_channels=32),
        )
    )
    model.cfg = Config(dict(model=dict()), filename=None)
    model.dataset_meta = dict(classes=[f'class {index}' for index in range(7)])
    return randomise(model).eval()


def by_hand(model: nn.Module, rgb: Tensor, channels: str) -> list[Tensor]:
    """What the model gives for RGB pixels, normalised in NumPy."""
    with torch.no_grad():
        if not channels:
            return list(model(rgb))
        pixels = rgb.numpy().astype(np.float64)
        if channels == 'BGR':
            pixels = pixels[:, ::-1]
        pixels = (pixels - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
        tokens = model.backbone(torch.from_numpy(pixels).float())
        return [model.head.fc(tokens[-1])]


# name -> (model, order of the channels it was trained on, names of the outputs)
MODELS_IN_BOTH_FORMATS = {
    'ResFormer classifier': (classifier, 'RGB', ['logits']),
    'DeiT classifier': (
        lambda: classifier(to_rgb=False, global_position=LEARNED, local_position=None),
        'BGR',
        ['logits'],
    ),
    'feature maps, windows, no class token, no norm': (
        lambda: backbone(
            out_type='featmap',
            out_indices=(0, 1),
            with_cls_token=False,
            final_norm=False,
            window_size=3,
            window_block_indices=(0,),
        ),
        '',
        ['block_0', 'block_1'],
    ),
}


@pytest.fixture(scope='module', params=MODELS_IN_BOTH_FORMATS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A model, and its two files."""
    build, channels, names = MODELS_IN_BOTH_FORMATS[request.param]
    model, folder = build(), tmp_path_factory.mktemp('files')
    deployable = DeployableModel(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, 'capture', functools.cache(formats.capture))  # once for both
        for item in (OnnxFormat(), ProgramFormat()):
            item.write(deployable, folder / f'model{item.suffix}')
    return dict(model=model, channels=channels, names=names, folder=folder)


def random_pixels(batch: int, height: int, width: int, channels: str) -> Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    if not channels:
        return torch.randn(batch, 3, height, width, generator=generator)
    return torch.randint(256, (batch, 3, height, width), generator=generator).float()


def assert_equal_everywhere(run, model: nn.Module, channels: str) -> None:
    seen = []
    for index, (height, width) in enumerate(SIZES):
        pixels = random_pixels(BATCHES[index % 3], height, width, channels)
        outputs, expected = run(pixels), by_hand(model, pixels, channels)
        assert [x.shape for x in outputs] == [x.shape for x in expected]
        for output, wanted in zip(outputs, expected):
            difference = (output - wanted).abs().max().item()
            assert difference < 1e-5, (tuple(pixels.shape), difference)
        seen.append(expected[0].flatten()[:7])
    # The sizes are told apart: a file that computed all of them alike could not have passed.
    assert torch.pdist(torch.stack(seen)).min() > 1e-3


@exports
@pytest.mark.slow
@pytest.mark.parametrize('file_format', [OnnxFormat, ProgramFormat])
def test_a_file_equals_pytorch_at_every_size(case: dict, file_format: type) -> None:
    run = file_format().load(case['folder'] / f'model{file_format.suffix}')
    assert_equal_everywhere(run, case['model'], case['channels'])


@exports
@pytest.mark.slow
def test_what_an_onnx_file_says_of_itself(case: dict) -> None:
    import onnx

    file = onnx.load(case['folder'] / 'model.onnx')
    onnx.checker.check_model(file)
    assert [(item.domain, item.version) for item in file.opset_import] == [('', 20)]
    (image,) = file.graph.input
    dims = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert (image.name, dims) == ('image', ['batch', 3, 'height', 'width'])
    assert [output.name for output in file.graph.output] == case['names']
    for output in file.graph.output:
        assert output.type.tensor_type.shape.dim[0].dim_param == 'batch'
    entries = {entry.key: entry.value for entry in file.metadata_props}
    assert entries['patch_size'] == '16' and 'from 16 on' in entries['input']
    assert ('RGB, 0 to 255' in entries['input']) is bool(case['channels'])
    if case['channels']:
        expected = dict(channels=case['channels'], mean=list(MEAN), std=list(STD))
        assert json.loads(entries['normalization']) == expected
        assert json.loads(entries['classes']) == case['model'].dataset_meta['classes']


@exports
@pytest.mark.slow
def test_a_program_has_the_parameters_of_the_model_and_refuses_less_than_a_patch(case: dict) -> None:
    extra = {'metadata.json': ''}
    program = torch.export.load(case['folder'] / 'model.pt2', extra_files=extra)
    parameters = {name.removeprefix('model.'): value for name, value in program.named_parameters()}
    expected = dict(case['model'].named_parameters())
    assert parameters.keys() == expected.keys()
    assert all(torch.equal(parameters[name], value) for name, value in expected.items())
    assert json.loads(extra['metadata.json'])['patch_size'] == '16'
    ranges = sorted((limit.lower, str(limit.upper)) for limit in program.range_constraints.values())
    assert ranges == [(1, 'int_oo'), (16, 'int_oo'), (16, 'int_oo')]
    with pytest.raises(AssertionError, match='16'):
        program.module()(random_pixels(1, 15, 40, 'RGB'))


@exports
@pytest.mark.slow
@pytest.mark.parametrize(
    'settings',
    [
        dict(
            out_type='raw',
            out_indices=(0, 1),
            global_position=dict(type='GlobalPositionEmbedding', conv=False),
        ),
        dict(
            out_type='avg_featmap',
            global_position={**LEARNED, 'interpolation': 'bilinear', 'with_cls_token': False},
        ),
        dict(out_type='featmap', out_indices=(0, 1), final_norm=False),  # as in segmentors
    ],
    ids=['tokens, GPE without convolution', 'mean, table with LPE', 'maps beside a class token'],
)
def test_other_settings_as_programs(settings: dict, tmp_path: Path) -> None:
    model = backbone(**settings)
    ProgramFormat().write(DeployableModel(model), tmp_path / 'model.pt2')
    assert_equal_everywhere(ProgramFormat().load(tmp_path / 'model.pt2'), model, '')


@exports
@pytest.mark.slow
@pytest.mark.parametrize(
    ('file_format', 'dtype'),
    [(ProgramFormat, 'bfloat16'), (ProgramFormat, 'float16'), (OnnxFormat, 'float16')],
)
def test_files_that_compute_in_sixteen_bits(file_format: type, dtype: str, tmp_path: Path) -> None:
    """Next to autocast of the model itself, whose rounding depends on the order of sums; and to float32."""
    model, half = classifier(), DeployableModel(classifier())
    half.compute_in(dtype)
    path = tmp_path / f'model{file_format.suffix}'
    found = export(half, path, file_format(), SIZES[:4])
    assert all(item.value <= HALF_TOLERANCE * item.magnitude for item in found)
    loaded = load_file(path)
    assert loaded.metadata['dtype'] == dtype
    for index, (height, width) in enumerate(SIZES):
        pixels = random_pixels(BATCHES[index % 3], height, width, 'RGB')
        (output,), (expected,) = loaded.run(pixels), by_hand(model, pixels, 'RGB')
        assert output.dtype == torch.float32
        error = ((output - expected).norm() / expected.norm()).item()
        assert 1e-5 < error < 0.02, (tuple(pixels.shape), error)


@exports
@pytest.mark.slow
def test_onnxruntime_says_what_it_cannot_compute_in_bfloat16(tmp_path: Path) -> None:
    half = DeployableModel(classifier())
    half.compute_in('bfloat16')
    with pytest.raises(ExportError, match='cannot be run by onnxruntime: .*bfloat16'):
        export(half, tmp_path / 'model.onnx', OnnxFormat(), SIZES[:1])
    assert not (tmp_path / 'model.onnx').exists()


@exports
@pytest.mark.slow
def test_the_ends_of_the_opsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    monkeypatch.setattr(formats, 'capture', functools.cache(formats.capture))  # once for both
    arch = {**ARCH, 'num_layers': 1}
    model = DeployableModel(backbone(arch=arch, global_position={**LEARNED, 'interpolation': 'nearest'}))
    path = tmp_path / 'model.onnx'
    for opset in (18, 25):
        differences = export(model, path, OnnxFormat(opset, ['feature']), SIZES)
        assert len(differences) == len(SIZES) and max(item.value for item in differences) < 1e-5
        file = onnx.load(path)
        assert [item.version for item in file.opset_import] == [opset]
        assert [output.name for output in file.graph.output] == ['feature']


# --------------------------------------------------------------------------------- normalisation


class Probe(BaseModel):
    """A model that gives what reaches its ResFormer."""

    def __init__(self, data_preprocessor: nn.Module) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.backbone = backbone()

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor') -> Tensor:
        assert mode == 'tensor'
        return inputs


@pytest.mark.parametrize('normalized', [True, False])
@pytest.mark.parametrize(
    ('library', 'order'),
    [
        ('mmengine', 'bgr_to_rgb'),
        ('mmengine', 'rgb_to_bgr'),
        ('mmengine', None),
        ('mmpretrain', 'bgr_to_rgb'),
        ('mmpretrain', None),
    ],
)
def test_the_normalisation_of_data_preprocessors(library: str, order: str | None, normalized: bool) -> None:
    """RGB pixels give what the preprocessor makes of the pixels as its pipeline loads them."""
    settings = dict(mean=MEAN, std=STD) if normalized else {}
    if library == 'mmpretrain':
        settings['to_rgb'] = order == 'bgr_to_rgb'
        preprocessor = MODELS.build(dict(type='mmpretrain.ClsDataPreprocessor', **settings))
    else:
        settings.update({order: True} if order else {})
        preprocessor = ImgDataPreprocessor(**settings)
    model = Probe(preprocessor)
    model.cfg = Config(dict(model=dict(data_preprocessor=settings)))
    rgb = random_pixels(2, 20, 30, 'RGB')
    loaded = rgb if order == 'rgb_to_bgr' else rgb.flip(1)
    expected = preprocessor({'inputs': list(loaded)}, False)['inputs']
    deployable = DeployableModel(model)
    torch.testing.assert_close(deployable(rgb), expected)
    torch.testing.assert_close(deployable.predict_as_trained(rgb.to(torch.uint8)), expected)


def test_a_model_without_normalisation_takes_its_input_as_it_is() -> None:
    image = random_pixels(1, 20, 30, '')
    deployable = DeployableModel(Probe(BaseDataPreprocessor()))
    assert torch.equal(deployable(image), image)
    assert 'as in training' in deployable.metadata()['input']
    model = backbone(in_channels=4)
    (expected,) = model(torch.cat([image, image[:, :1]], 1))
    (actual,) = DeployableModel(model)(torch.cat([image, image[:, :1]], 1))
    assert torch.equal(actual, expected)
    assert '(batch, 4, height, width)' in DeployableModel(model).metadata()['input']


def test_data_preprocessors_that_do_more_are_refused() -> None:
    class Other(BaseDataPreprocessor):
        pass

    with pytest.raises(ExportError, match='pads images.*remove pad_size_divisor'):
        Normalization.of(Probe(ImgDataPreprocessor(pad_size_divisor=32)))
    with pytest.raises(ExportError, match='data_preprocessor=Other'):
        Normalization.of(Probe(Other()))


# ------------------------------------------------------------------------- checking, and refusing


class Echo:
    """A format without a model: the file holds a number that its outputs are off by."""

    suffix = '.txt'

    def __init__(self, error: float, model: DeployableModel) -> None:
        self.error, self.model = error, model

    def write(self, model: DeployableModel, path: Path) -> None:
        path.write_text(str(self.error))

    def load(self, path: Path):
        error = float(path.read_text())

        def run(image: Tensor) -> list[Tensor]:
            with torch.no_grad():
                (output,) = self.model(image)
            if image.shape[-1] == 40:  # one number, at one size
                output[-1, -1] += error
            return [output]

        return run


@pytest.mark.parametrize('error', [2e-4, -2e-4, float('nan'), float('inf')])
def test_a_file_that_differs_is_not_written(error: float, tmp_path: Path) -> None:
    model, path, reported = DeployableModel(backbone()), tmp_path / 'new' / 'model.txt', []
    sizes = [(16, 16), (24, 40), (40, 24)]
    export(model, path, Echo(0.0, model), sizes)
    with pytest.raises(ExportError, match=r'model.txt was not written: at 24x40 .* tolerance of 1.0e-04'):
        export(model, path, Echo(error, model), sizes, report=reported.append)
    assert path.read_text() == '0.0'
    assert list(path.parent.iterdir()) == [path]
    assert [(item.batch, item.height, item.width) for item in reported] == [
        (1, 16, 16),
        (2, 24, 40),
        (5, 40, 24),
    ]
    if np.isfinite(error):
        assert reported[1].value == pytest.approx(2e-4, rel=1e-2) and reported[0].value < 1e-6
        export(model, path, Echo(error, model), sizes, tolerance=3e-4)
    export(model, path, Echo(error, model), [(40, 24)])  # where it does not differ
    assert path.read_text() == str(error)


def test_weights_that_are_not_finite_fail(tmp_path: Path) -> None:
    model = backbone()
    with torch.no_grad():
        model.norm.bias[0] = float('nan')
    deployable = DeployableModel(model)
    with pytest.raises(ExportError, match='differs from PyTorch by up to nan'):
        export(deployable, tmp_path / 'model.txt', Echo(0.0, deployable), [(16, 16)])


def test_outputs_of_another_shape() -> None:
    model = DeployableModel(backbone())

    def run(image: Tensor) -> list[Tensor]:
        return [torch.zeros(len(image), 32), torch.zeros(1)]

    with pytest.raises(
        ExportError, match=r'at 1x16x20 the file gives \[\(1, 32\), \(1,\)\], PyTorch \[\(1, 32\)\]'
    ):
        list(compare(run, model, [(16, 20)]))


def test_a_file_that_refuses_a_size() -> None:
    def run(image: Tensor) -> list[Tensor]:
        raise AssertionError('Guard failed: image.size()[2] != 16')

    with pytest.raises(ExportError, match='at 1x16x20 the file does not run: Guard failed'):
        list(compare(run, DeployableModel(backbone()), [(16, 20)]))


def test_a_comparison_measures_the_largest_difference() -> None:
    model = DeployableModel(backbone())

    def run(image: Tensor) -> list[Tensor]:
        with torch.no_grad():
            (output,) = model(image)
        output[0, 3] -= 0.25
        output[0, 4] += 0.125
        return [output]

    (item,) = compare(run, model, [(16, 33)])
    assert item == Difference(1, 16, 33, item.value, item.magnitude)
    assert item.value == pytest.approx(0.25) and item.magnitude > 0.1


@pytest.mark.parametrize('patch', [4, 8, 14, 16])
def test_default_sizes_are_of_all_kinds(patch: int) -> None:
    sizes = default_sizes(patch)
    assert len(set(sizes)) == len(sizes) >= 10
    check_sizes(sizes, patch)
    assert (patch, patch) in sizes
    assert any(h == patch < w for h, w in sizes) and any(w == patch < h for h, w in sizes)
    assert any(h < w for h, w in sizes if h > patch) and any(w < h for h, w in sizes if w > patch)
    assert any(h % patch and w % patch for h, w in sizes)


@pytest.mark.parametrize('size', [(15, 64), (64, 15), (0, 0)])
def test_sizes_below_one_patch(size: tuple[int, int], tmp_path: Path) -> None:
    model = DeployableModel(backbone())
    with pytest.raises(ExportError, match=f'{size[0]}x{size[1]} is smaller than one patch of 16x16'):
        export(model, tmp_path / 'model.txt', Echo(0.0, model), [(32, 32), size])
    assert not list(tmp_path.iterdir())


def test_models_that_cannot_be_exported() -> None:
    segmentor = nn.Module()
    segmentor.backbone, segmentor.decode_head = ResFormer('tiny'), nn.Identity()
    with pytest.raises(
        ExportError, match=r'Module is not an image classifier.*DeployableModel\(model.backbone'
    ):
        DeployableModel(segmentor)
    assert len(DeployableModel(segmentor.backbone)(torch.zeros(1, 3, 32, 48))) == 1  # as advised
    with pytest.raises(ExportError, match='Linear has no ResFormer backbone'):
        DeployableModel(nn.Linear(2, 2))
    area = {**LEARNED, 'interpolation': 'area'}
    with pytest.raises(ExportError, match="interpolation='area' cannot be exported"):
        DeployableModel(backbone(global_position=area))


@exports
def test_a_module_that_takes_another_path_for_some_sizes(tmp_path: Path) -> None:
    class Fickle(ResFormer):
        def forward(self, image: Tensor) -> tuple[Tensor, ...]:
            return super().forward(image * 2 if image.shape[-1] % 2 else image)

    with pytest.raises(ExportError, match=r'Fickle cannot be exported for all sizes of its input: .*width'):
        ProgramFormat().write(DeployableModel(Fickle(arch=ARCH)), tmp_path / 'model.pt2')


@exports
def test_onnx_options_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match='opset 17 is not supported: choose from 18 to 25'):
        OnnxFormat(opset=17)
    signature = SimpleNamespace(user_outputs=('select_1', 'select_2'))
    monkeypatch.setattr(formats, 'capture', lambda model: SimpleNamespace(graph_signature=signature))
    for names in (['a'], ['a', 'a'], ['a', 'a', 'b']):
        with pytest.raises(ExportError, match='the number of outputs is 2: give as many different names'):
            OnnxFormat(output_names=names).write(DeployableModel(backbone()), tmp_path / 'model.onnx')


@exports
@pytest.mark.parametrize(
    ('module', 'use'),
    [
        ('onnx', lambda: OnnxFormat()),
        ('onnxscript', lambda: OnnxFormat()),
        ('onnxruntime', lambda: OnnxFormat().load(Path('model.onnx'))),
    ],
)
def test_a_missing_package_is_named(module: str, use, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == module else find_spec(name))
    with pytest.raises(ImportError, match=rf"need {module}: pip install 'resformer-mm\[deployment\]'"):
        use()


@pytest.mark.parametrize('version', ['2.1.2+cu121', '2.9.1'])
@pytest.mark.parametrize(
    ('file_format', 'first'),
    [(OnnxFormat, formats.ONNX_VERSION), (ProgramFormat, formats.PROGRAM_VERSION)],
)
def test_versions_of_pytorch_that_cannot_export_are_refused(file_format, first, version, monkeypatch) -> None:
    monkeypatch.setattr(torch, '__version__', TorchVersion(version))
    needed = rf'need PyTorch {first} or later, this is {re.escape(version)}: export the checkpoint in'
    with pytest.raises(ExportError, match=needed):
        file_format()


def test_files_of_backbones_have_no_predictions() -> None:
    DeployableModel(classifier()).require_predictions()
    with pytest.raises(ExportError, match='exported from ResFormer can be neither quantised nor evaluated'):
        DeployableModel(backbone()).require_predictions()
