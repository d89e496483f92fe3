"""Exported segmentors against mmsegmentation's own evaluation, and their client against the inferencer."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_files import printed, run_client
from mmengine.config import Config
from mmseg.structures import SegDataSample
from PIL import Image
from runs import run_tool
from small_models import save_checkpoint, segmentor
from torch import Tensor, nn

from resformer_mm.apis import load_model, make_inferencer
from resformer_mm.deployment import (
    DeployableModel,
    ExportError,
    OnnxFormat,
    ProgramFormat,
    compare,
    deployable,
    formats,
)
from resformer_mm.deployment.evaluation import ExportedModel
from resformer_mm.deployment.runtimes import load_file
from resformer_mm.deployment.selection import evaluable
from resformer_mm.tasks.segmentation.deployment import DeployableSegmentor

exports = pytest.mark.skipif(
    torch.__version__ < formats.PROGRAM_VERSION,
    reason=f'files for all sizes need PyTorch {formats.PROGRAM_VERSION}',
)
# One patch, rows and columns, odd sizes, both sides of the padding to 32, rectangles.
SIZES = [(16, 16), (16, 80), (96, 16), (17, 33), (32, 32), (37, 53), (64, 96), (95, 49), (80, 80), (65, 130)]
CLASSES = [f'stuff {label}' for label in range(5)]
PALETTE = [[10 * label, 255 - label, 7] for label in range(5)]


def upernet(padded: bool = True) -> Config:
    """A UPerNet whose data preprocessor pads with a value that shows."""
    cfg = segmentor()
    cfg.model.decode_head = dict(
        type='UPerHead',
        in_channels=[32, 32],
        in_index=[0, 1],
        pool_scales=(1, 2, 3, 6),
        channels=16,
        num_classes=5,
        norm_cfg=dict(type='BN'),
    )
    cfg.model.auxiliary_head = dict(
        type='FCNHead', in_channels=32, in_index=1, channels=8, num_classes=5, norm_cfg=dict(type='BN')
    )
    if padded:
        cfg.model.data_preprocessor.update(pad_val=0.7, test_cfg=dict(size_divisor=32))
    return cfg


def build(cfg: Config, std: float = 0.1) -> nn.Module:
    torch.manual_seed(0)
    model = load_model(cfg, device='cpu')
    for value in model.parameters():
        nn.init.normal_(value, std=std)
    model.dataset_meta = {}
    return model


def evaluated(model: nn.Module, rgb: Tensor) -> list[SegDataSample]:
    """What evaluation predicts for images as the pipeline loads them, one at a time."""
    found = []
    for image in rgb:
        size = (image.shape[1], image.shape[2])
        sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=size))
        with torch.no_grad():
            found += model.test_step({'inputs': [image.flip(0)], 'data_samples': [sample]})
    return found


def pixels(batch: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope='module')
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A padded UPerNet with its scores as both formats, and an FCN with its labels in ONNX."""
    folder = tmp_path_factory.mktemp('files')
    padded = build(upernet())
    scores = deployable(padded, output='scores')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, 'capture', functools.cache(formats.capture))
        OnnxFormat().write(scores, folder / 'scores.onnx')
        ProgramFormat().write(scores, folder / 'scores.pt2')
    checkpoint = save_checkpoint(segmentor(), folder / 'fcn.pth', classes=CLASSES, palette=PALETTE)
    OnnxFormat().write(deployable(load_model(segmentor(), checkpoint, 'cpu')), folder / 'labels.onnx')
    return dict(folder=folder, upernet=padded, checkpoint=checkpoint)


@exports
@pytest.mark.slow
@pytest.mark.parametrize('file_format', [OnnxFormat, ProgramFormat])
def test_scores_are_those_of_evaluation_at_every_size(exported: dict, file_format: type) -> None:
    run = file_format().load(exported['folder'] / f'scores{file_format.suffix}')
    for index, (height, width) in enumerate(SIZES):
        rgb = pixels((1, 2, 3)[index % 3], height, width)
        (scores,) = run(rgb.float())
        assert scores.shape == (len(rgb), 5, height, width)
        for found, sample in zip(scores, evaluated(exported['upernet'], rgb)):
            difference = (found - sample.seg_logits.data).abs().max()
            assert difference < 2e-5 * (1 + sample.seg_logits.data.abs().max()), (height, width)


@exports
@pytest.mark.slow
def test_labels_are_those_of_evaluation_at_every_size(exported: dict) -> None:
    run = OnnxFormat().load(exported['folder'] / 'labels.onnx')
    model = load_model(segmentor(), exported['checkpoint'], 'cpu')
    seen = set()
    for index, (height, width) in enumerate(SIZES):
        rgb = pixels((1, 2, 3)[index % 3], height, width)
        (labels,) = run(rgb.float())
        assert labels.dtype == torch.uint8 and labels.shape == (len(rgb), height, width)
        for found, sample in zip(labels, evaluated(model, rgb)):
            first, second = sample.seg_logits.data.topk(2, dim=0).values
            clear = first - second > 1e-3
            assert clear.float().mean() > 0.97
            assert torch.equal(found[clear], sample.pred_sem_seg.data[0][clear].to(torch.uint8))
        seen |= set(labels.unique().tolist())
    assert len(seen) > 2


@exports
@pytest.mark.slow
def test_what_a_file_says_of_itself(exported: dict) -> None:
    import onnx

    file = onnx.load(exported['folder'] / 'labels.onnx')
    entries = {entry.key: entry.value for entry in file.metadata_props}
    assert entries['task'] == 'segmentation' and 'index of the class' in json.loads(entries['outputs'])[0]
    assert json.loads(entries['classes']) == CLASSES
    assert json.loads(entries['palette']) == PALETTE
    assert json.loads(entries['mask_values']) == [1, 2, 3, 4, 5]  # ADE20K: zero is unlabelled
    (output,) = file.graph.output
    dims = [dim.dim_param for dim in output.type.tensor_type.shape.dim]
    assert output.name == 'labels' and dims == ['batch', 'height', 'width']


@exports
@pytest.mark.slow
@pytest.mark.parametrize('name', ['labels.onnx', 'scores.onnx'])
def test_the_client_predicts_as_the_inferencer(exported: dict, name: str, tmp_path: Path) -> None:
    rows, columns = np.mgrid[:90, :130]
    picture = np.stack([rows * 2, columns, (rows // 9 + columns // 13) % 2 * 200], -1).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / 'photo.png')
    path, out = exported['folder'] / name, tmp_path / 'labels.png'
    shares = printed(run_client('onnx_segmentation.py', path, tmp_path / 'photo.png', out))
    labels = np.asarray(Image.open(out))
    if name == 'labels.onnx':
        inferencer = make_inferencer(segmentor(), exported['checkpoint'], 'cpu')
        assert Image.open(out).getpalette()[:15] == sum(PALETTE, [])
    else:
        torch.save(exported['upernet'].state_dict(), tmp_path / 'upernet.pth')
        inferencer = make_inferencer(upernet(), tmp_path / 'upernet.pth', 'cpu')
    (prediction,) = inferencer(picture[..., ::-1].copy())['predictions']
    assert labels.shape == prediction['seg_map'].shape == (90, 130)
    # Labels of an enlarged map are off at the borders of classes, and resizing rounds pixels.
    assert (labels == prediction['seg_map']).mean() > (0.9 if name == 'labels.onnx' else 0.98)
    for label, share in shares.items():
        assert share == pytest.approx((labels == int(label.removeprefix('stuff '))).mean(), abs=1e-4)


def test_the_client_applies_the_threshold_to_one_score(tmp_path: Path) -> None:
    """A file whose score is the mean of the channels less 128."""
    onnx = pytest.importorskip('onnx')
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    values = [
        make.make_tensor('axes', onnx.TensorProto.INT64, [1], [1]),
        make.make_tensor('c', kind, [1], [128]),
    ]
    graph = make.make_graph(
        [
            make.make_node('ReduceMean', ['image', 'axes'], ['m']),
            make.make_node('Sub', ['m', 'c'], ['scores']),
        ],
        'scores',
        [make.make_tensor_value_info('image', kind, ['batch', 3, 'height', 'width'])],
        [make.make_tensor_value_info('scores', kind, ['batch', 1, 'height', 'width'])],
        values,
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid('', 20)], ir_version=10)
    make.set_model_props(model, {'task': 'segmentation', 'resizing': '[]', 'threshold': '0.8'})
    onnx.save(model, tmp_path / 'model.onnx')
    gray = np.arange(120, 140, dtype=np.uint8).reshape(4, 5)
    Image.fromarray(gray).save(tmp_path / 'photo.png')
    out = tmp_path / 'labels.png'
    printed(run_client('onnx_segmentation.py', tmp_path / 'model.onnx', tmp_path / 'photo.png', out))
    expected = 1 / (1 + np.exp(128.0 - gray)) > 0.8
    assert np.array_equal(np.asarray(Image.open(out)), expected) and 0 < expected.mean() < 1


# ------------------------------------------------------------------------------------ comparison


def run_of(model: DeployableSegmentor, change=lambda labels, scores: labels):
    """The labels of evaluation as a file would give them, after a change."""

    def run(image: Tensor) -> list[Tensor]:
        labels, scores = model.predict_as_trained(image.to(torch.uint8))
        return [change(labels.clone(), scores).to(torch.uint8)]

    return run


def test_labels_may_differ_only_between_close_scores() -> None:
    model = deployable(build(segmentor()))
    assert [item.value for item in compare(run_of(model), model, [(32, 48), (17, 20)])] == [0, 0]
    margins = []

    def second_best(labels: Tensor, scores: Tensor) -> Tensor:
        first, second = scores[0, :, 5, 7].topk(2).values
        margins.append((first - second).item())
        labels[0, 5, 7] = scores[0, :, 5, 7].topk(2).indices[1]
        return labels

    (item,) = compare(run_of(model, second_best), model, [(32, 48)])
    assert item.value == pytest.approx(margins[0], rel=1e-6) and item.value > 0

    def unknown_class(labels: Tensor, scores: Tensor) -> Tensor:
        labels[0, 0, 0] = 5
        return labels

    (item,) = compare(run_of(model, unknown_class), model, [(32, 48)])
    assert item.value == float('inf')
    with pytest.raises(ExportError, match=r'at 1x32x48 the file gives .* PyTorch'):
        list(compare(run_of(model, lambda labels, scores: labels[:, :-1]), model, [(32, 48)]))


@pytest.mark.parametrize('output', ['labels', 'scores'])
def test_one_output_with_a_threshold(output: str) -> None:
    cfg = segmentor(num_classes=2)
    cfg.model.decode_head.update(out_channels=1, threshold=0.4)
    net = build(cfg, std=0.3)
    rgb = pixels(2, 40, 52)
    (found,) = [deployable(net, output=output)(rgb.float())]
    for one, sample in zip(found, evaluated(net, rgb)):
        if output == 'scores':
            torch.testing.assert_close(one.sigmoid(), sample.seg_logits.data)
        else:
            assert torch.equal(one, sample.pred_sem_seg.data[0].to(torch.uint8)) and one.unique().numel() == 2
    model = deployable(net, output='scores')
    with torch.no_grad():
        assert model.difference([model(rgb.float())], model.predict_as_trained(rgb))[0] < 1e-5
    model = deployable(net)
    assert model.metadata()['threshold'] == '0.4'
    labels, scores = model.predict_as_trained(rgb)
    flipped = labels.clone()
    flipped[1, 3, 4] = 1 - flipped[1, 3, 4]
    value, _ = model.difference([flipped.to(torch.uint8)], (labels, scores))
    assert value == pytest.approx(abs(scores[1, 0, 3, 4].item() - 0.4), rel=1e-5)


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ('options', 'settings', 'message'),
    [
        ({'output': 'masks'}, {}, "output='masks' is unknown: choose from labels, scores"),
        ({'runtime': 3}, {}, 'the option runtime does not apply to EncoderDecoder: its options are output'),
        ({}, {'test_cfg': dict(mode='slide', crop_size=(64, 64), stride=(32, 32))}, r'test_cfg.mode=whole'),
        (
            {},
            {'data_preprocessor.test_cfg': dict(size=(64, 64))},
            r'test_cfg.size=\(64, 64\) pads every image',
        ),
    ],
    ids=['output', 'option', 'slide', 'fixed size'],
)
def test_what_cannot_be_exported_is_told(options: dict, settings: dict, message: str) -> None:
    cfg = segmentor()
    cfg.merge_from_dict({f'model.{key}': value for key, value in settings.items()})
    with pytest.raises(ExportError, match=message):
        deployable(load_model(cfg, device='cpu'), **options)


def test_a_backbone_and_a_segmentor_get_their_own_class() -> None:
    model = load_model(segmentor(), device='cpu')
    assert type(deployable(model)) is DeployableSegmentor
    assert type(deployable(model.backbone)) is DeployableModel
    with pytest.raises(ExportError, match='the option output does not apply to ResFormer: it has no options'):
        deployable(model.backbone, output='labels')


@exports
@pytest.mark.slow
def test_the_command_line(exported: dict, tmp_path: Path) -> None:
    segmentor().dump(tmp_path / 'fcn.py')
    words = [
        'deployment/export_program.py',
        tmp_path / 'fcn.py',
        exported['checkpoint'],
        '--output',
        'scores',
    ]
    out = ['--out', tmp_path / 'model.pt2', '--verify-sizes', '32x48', '37']
    result = run_tool(*words, *out, data=tmp_path, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (scores,) = ProgramFormat().load(tmp_path / 'model.pt2')(pixels(1, 40, 30).float())
    assert scores.shape == (1, 5, 40, 30)
    slide = ['--cfg-options', 'model.test_cfg.mode=slide']
    result = run_tool(*words, *slide, data=tmp_path, cwd=tmp_path)
    assert result.returncode == 2 and 'model.test_cfg.mode=whole' in result.stderr


@exports
@pytest.mark.slow
def test_a_file_in_the_place_of_the_model_predicts_what_the_model_does(exported: dict) -> None:
    model, folder = exported['upernet'], exported['folder']
    file = ExportedModel(evaluable(model), load_file(folder / 'scores.onnx'))
    for size, original in (((40, 56), (80, 112)), ((64, 33), (50, 25))):
        results = []
        for step in (model.test_step, file.test_step):
            sample = SegDataSample(metainfo=dict(ori_shape=original, img_shape=size))
            with torch.no_grad():
                results += step({'inputs': [pixels(1, *size)[0]], 'data_samples': [sample]})
        expected, found = results
        assert found.pred_sem_seg.data.shape == (1, *original)
        torch.testing.assert_close(found.seg_logits.data, expected.seg_logits.data, rtol=0, atol=1e-3)
        assert (found.pred_sem_seg.data == expected.pred_sem_seg.data).float().mean() > 0.999
    with pytest.raises(ExportError, match='another output .* with --output scores'):
        labels = load_model(segmentor(), exported['checkpoint'], 'cpu')
        ExportedModel(evaluable(labels), load_file(folder / 'labels.onnx'))
