"""Exported recognizers against mmaction2's own evaluation, and their client against the inferencer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_files import printed, run_client
from mmengine.config import Config
from PIL import Image
from small_models import recognizer
from torch import Tensor, nn

from resformer_mm.apis import load_model, make_inferencer
from resformer_mm.compat import prepare_mmaction
from resformer_mm.deployment import (
    ExportError,
    OnnxFormat,
    ProgramFormat,
    compare,
    deployable,
    export,
    formats,
)
from resformer_mm.deployment.export import HALF_TOLERANCE
from resformer_mm.deployment.runtimes import load_file

prepare_mmaction()
from mmaction.structures import ActionDataSample  # noqa: E402

from resformer_mm.tasks.video.deployment import DeployableRecognizer, frame_sampling  # noqa: E402

exports = pytest.mark.skipif(
    torch.__version__ < formats.PROGRAM_VERSION,
    reason=f'files for all sizes need PyTorch {formats.PROGRAM_VERSION}',
)
MEAN, STD = [120.0, 110.0, 90.0], [60.0, 55.0, 50.0]
CLASSES = ['left', 'right', 'up']
# clips, frames, height, width: single ones, rectangles, odd sizes, the usual number of frames and others.
SHAPES = [
    (1, 1, 8, 8),
    (1, 4, 8, 40),
    (3, 4, 24, 8),
    (2, 1, 9, 17),
    (1, 7, 24, 24),
    (3, 2, 21, 13),
    (2, 8, 16, 24),
    (1, 3, 33, 10),
    (1, 4, 32, 32),
    (2, 5, 19, 40),
]


def config(crop: str = 'ThreeCrop', **backbone) -> Config:
    """A recognizer of three classes on four frames of 24 pixels at an interval of 3."""
    model = dict(
        type='resformer_mm.MultiResolutionRecognizer',
        data_preprocessor=dict(type='resformer_mm.MultiResolutionActionDataPreprocessor', mean=MEAN, std=STD),
        backbone=dict(
            type='resformer_mm.VideoResFormer',
            arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
            patch_size=8,
            num_frames=4,
            **backbone,
        ),
        cls_head=dict(type='TimeSformerHead', num_classes=3, in_channels=16, average_clips='prob'),
    )
    pipeline = [
        dict(type='resformer_mm.ClipInit'),
        dict(type='SampleFrames', clip_len=4, frame_interval=3, num_clips=2, test_mode=True),
        dict(type='resformer_mm.ClipDecode'),
        dict(type='Resize', scale=(-1, 24)),
        dict(type=crop, crop_size=24),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='resformer_mm.PackClips'),
    ]
    dataset = dict(type='resformer_mm.VideoList', metainfo=dict(classes=CLASSES), pipeline=pipeline)
    return Config(
        dict(default_scope='mmaction', model=model, test_dataloader=dict(dataset=dataset), test_cfg=dict())
    )


def build(cfg: Config) -> nn.Module:
    torch.manual_seed(0)
    model = load_model(cfg, device='cpu')
    for name, value in model.named_parameters():
        nn.init.normal_(value, std=1.0 if 'head' in name else 0.2)
    return model


def clips(batch: int, number: int, frames: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(frames * 10000 + height * 100 + width)
    shape = (batch, number, 3, frames, height, width)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def evaluated(model: nn.Module, rgb: Tensor) -> Tensor:
    """What evaluation predicts for videos, one at a time."""
    with torch.no_grad():
        found = [model.test_step({'inputs': [x], 'data_samples': [ActionDataSample()]})[0] for x in rgb]
    return torch.stack([sample.pred_score for sample in found])


@pytest.fixture(scope='module')
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A recognizer with divided attention, and its ONNX file."""
    folder, model = tmp_path_factory.mktemp('files'), build(config())
    OnnxFormat().write(deployable(model), folder / 'model.onnx')
    return dict(folder=folder, model=model)


def assert_equal_everywhere(run, model: nn.Module) -> None:
    seen = []
    for index, shape in enumerate(SHAPES):
        rgb = clips((1, 2, 3)[index % 3], *shape)
        (scores,) = run(rgb.float())
        expected = evaluated(model, rgb)
        assert scores.shape == expected.shape and (scores - expected).abs().max() < 1e-5, shape
        seen.append(expected[0])
    assert torch.pdist(torch.stack(seen)).min() > 1e-4  # the shapes are told apart


@exports
@pytest.mark.slow
def test_scores_are_those_of_evaluation_for_every_shape(exported: dict) -> None:
    assert_equal_everywhere(OnnxFormat().load(exported['folder'] / 'model.onnx'), exported['model'])


@exports
@pytest.mark.slow
@pytest.mark.parametrize('attention', ['joint_space_time', 'space_only'])
def test_other_kinds_of_attention(attention: str, tmp_path: Path) -> None:
    model = build(config(attention_type=attention))
    ProgramFormat().write(deployable(model), tmp_path / 'model.pt2')
    assert_equal_everywhere(ProgramFormat().load(tmp_path / 'model.pt2'), model)


@exports
@pytest.mark.slow
def test_a_file_that_computes_in_sixteen_bits(tmp_path: Path) -> None:
    """Within the rounding of the scores of evaluation in float32, and not equal to them."""
    model, half = build(config()), deployable(build(config()))
    half.compute_in('float16')
    path = tmp_path / 'model.onnx'
    found = export(half, path, OnnxFormat(), [(16, 24), (17, 40)])
    assert all(item.value <= HALF_TOLERANCE * item.magnitude for item in found)
    loaded = load_file(path)
    assert loaded.metadata['dtype'] == 'float16' and loaded.metadata['task'] == 'video'
    errors = []
    for index, shape in enumerate(SHAPES):
        rgb = clips((1, 2, 3)[index % 3], *shape)
        (scores,) = loaded.run(rgb.float())
        assert scores.dtype == torch.float32
        errors.append((scores - evaluated(model, rgb)).abs().max().item())
    assert 1e-6 < max(errors) < 0.02, errors


@exports
@pytest.mark.slow
def test_what_a_file_says_of_itself(exported: dict) -> None:
    import onnx

    file = onnx.load(exported['folder'] / 'model.onnx')
    entries = {entry.key: entry.value for entry in file.metadata_props}
    assert entries['task'] == 'video' and json.loads(entries['classes']) == CLASSES
    assert json.loads(entries['sampling']) == {'clips': 2, 'frames': 4, 'interval': 3}
    assert json.loads(entries['normalization']) == {'channels': 'RGB', 'mean': MEAN, 'std': STD}
    (item,) = file.graph.input
    dims = [dim.dim_param or dim.dim_value for dim in item.type.tensor_type.shape.dim]
    assert (item.name, dims) == ('clips', ['batch', 'clips', 3, 'frames', 'height', 'width'])


@exports
@pytest.mark.slow
@pytest.mark.parametrize('total', [31, 7])  # longer and shorter than a clip of 4 frames at an interval of 3
def test_the_client_predicts_as_the_inferencer(exported: dict, total: int, tmp_path: Path) -> None:
    rows, columns = np.mgrid[:30, :44]
    video = np.stack(
        [
            np.stack([(rows * 5 + 9 * time) % 256, columns * 5, (rows + columns) * time % 256], -1)
            for time in range(total)
        ]
    ).astype(np.uint8)
    (tmp_path / 'frames').mkdir()
    for index, frame in enumerate(video):
        Image.fromarray(frame).save(tmp_path / 'frames' / f'{index:03}.png')
    torch.save(exported['model'].state_dict(), tmp_path / 'model.pth')
    inferencer = make_inferencer(config(), tmp_path / 'model.pth', 'cpu')
    path = exported['folder'] / 'model.onnx'
    found = printed(run_client('onnx_video.py', path, tmp_path / 'frames'))
    (prediction,) = inferencer(video)['predictions']
    assert found.keys() == set(CLASSES)
    for name, score in zip(CLASSES, prediction['pred_scores']):
        assert found[name] == pytest.approx(score, abs=2e-2)  # resizing rounds pixels
    first, *rest = [Image.fromarray(frame) for frame in video]
    first.save(tmp_path / 'clip.gif', save_all=True, append_images=rest)
    assert printed(run_client('onnx_video.py', path, tmp_path / 'clip.gif')).keys() == set(CLASSES)


def test_channels_in_the_other_order_and_mean_of_logits() -> None:
    cfg = config()
    cfg.model.data_preprocessor.to_rgb = True
    cfg.model.cls_head.average_clips = 'score'
    model = build(cfg)
    rgb = clips(2, 3, 4, 20, 24)
    module = deployable(model)
    with torch.no_grad():
        torch.testing.assert_close(module(rgb.float()), evaluated(model, rgb), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module.predict_as_trained(rgb), evaluated(model, rgb), rtol=1e-4, atol=1e-5)
    assert (
        'before the softmax' in module.metadata()['outputs'] and '"BGR"' in module.metadata()['normalization']
    )


def test_the_comparison_varies_clips_and_frames() -> None:
    model, shapes = deployable(build(config())), []

    def run(image: Tensor) -> list[Tensor]:
        shapes.append(tuple(image.shape))
        with torch.no_grad():
            return [model(image)]

    differences = list(compare(run, model, [(16, 24)] * 12))
    assert all(item.value < 1e-5 for item in differences)
    assert {shape[1] for shape in shapes} == {1, 2, 3} and len({shape[3] for shape in shapes}) > 3


def test_what_cannot_be_exported_is_told() -> None:
    with pytest.raises(
        ExportError, match='Recognizer2D with ResFormer is not exported: only recognizers of clips'
    ):
        deployable(load_model(recognizer(), device='cpu'))
    cfg = config()
    cfg.model.cls_head.average_clips = None
    with pytest.raises(ExportError, match='average_clips=None does not average the clips'):
        deployable(load_model(cfg, device='cpu'))
    cfg = config()
    with pytest.raises(ExportError, match='the option output does not apply to MultiResolutionRecognizer'):
        deployable(load_model(cfg, device='cpu'), output='labels')
    assert type(deployable(load_model(cfg, device='cpu'))) is DeployableRecognizer


@pytest.mark.parametrize(
    'change',
    [
        dict(twice_sample=True),
        dict(out_of_bound_opt='repeat_last'),
        dict(test_mode=False),
        dict(target_fps=10),
    ],
    ids=str,
)
def test_other_sampling_is_not_told(change: dict) -> None:
    cfg = config()
    cfg.test_dataloader.dataset.pipeline[1].update(change)
    assert frame_sampling(cfg) is None
    assert 'sampling' not in deployable(load_model(cfg, device='cpu')).metadata()
