"""Inference in 16 bits, next to float32 and to plain autocast."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from clip_files import write_clip
from mmengine.config import Config
from mmengine.model import BaseTTAModel
from pictures import picture
from small_models import classifier, detector, recognizer, save_checkpoint, segmentor
from torch import Tensor, nn

from resformer_mm import repairs
from resformer_mm.apis import load_model, make_inferencer
from resformer_mm.engine import inference_dtype, precision
from resformer_mm.engine.inference_dtype import set_inference_dtype
from resformer_mm.models import ResFormer

ARCH = dict(embed_dims=64, num_layers=3, num_heads=2, feedforward_channels=128)
SIZES = [(16, 16), (17, 33), (64, 64), (48, 112), (97, 50), (224, 224)]
KINDS: dict[str, dict] = {
    'class token': dict(),
    'maps': dict(out_type='featmap', out_indices=(0, 2)),
    'windows': dict(out_type='featmap', with_cls_token=False, window_size=3, window_block_indices=(0, 1)),
    'learned positions': dict(
        global_position=dict(type='LearnedPositionEmbedding', grid_size=4), local_position=None
    ),
    'no positions': dict(global_position=None, local_position=None),
    'adapters': dict(lora=dict(r=4)),
}


@pytest.fixture(autouse=True)
def _any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types of 16 bits are computed on every processor, if slowly."""
    monkeypatch.setattr(inference_dtype, 'half_pays', lambda *_: True)


class Model(nn.Module):
    """A backbone in a model without heads."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = ResFormer(ARCH, **kwargs).eval()
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.backbone(image)

    def test_step(self, data: Tensor) -> tuple[Tensor, ...]:
        return self(data)


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_it_is_autocast_bit_for_bit_and_close_to_float32(kind: str) -> None:
    model = Model(**KINDS[kind])
    half = copy.deepcopy(model)
    assert set_inference_dtype(half, 'bfloat16') == 'bfloat16'
    kept = {name for name, value in half.named_parameters() if value.dtype == torch.float32}
    norms = {name for name in kept if 'norm' in name}
    positions = {name for name in kept if 'position' in name}
    adapters = {name for name in kept if 'lora' in name}
    assert kept == norms | positions | adapters | ({'backbone.cls_token'} & kept) and norms
    for size in SIZES:
        image = torch.randn(2, 3, *size)
        expected = model(image)
        with torch.autocast('cpu', torch.bfloat16):
            cast = model(image)
        for actual, same, wanted in zip(half(image), cast, expected, strict=True):
            assert actual.dtype == same.dtype == torch.float32
            assert torch.equal(actual, same)
            error = (actual - wanted).norm() / wanted.norm()
            assert 0 < error < 0.02


def test_float16_has_the_smaller_error() -> None:
    image = torch.randn(2, 3, 48, 80)
    errors = []
    for name in ('bfloat16', 'float16'):
        model = Model()
        with torch.no_grad():
            (expected,) = model(image)
            set_inference_dtype(model, name)
            (actual,) = model(image)
        errors.append((actual - expected).norm() / expected.norm())
    assert errors[1] < errors[0] / 4


def test_nothing_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(inference_dtype, 'half_pays', precision.half_pays)
    monkeypatch.setattr(precision, 'has_native_bfloat16', lambda: False)
    monkeypatch.setattr(repairs, '_told', set())
    monkeypatch.setattr(repairs, 'print_log', lambda text, **_: told.append(text))
    model = Model()
    image = torch.randn(1, 3, 32, 32)
    (expected,) = model(image)
    for _ in range(2):
        assert set_inference_dtype(model, 'bfloat16', '--dtype') == 'float32'
    assert torch.equal(model(image)[0], expected)
    [line] = told
    assert line.startswith('--dtype: this processor has no bfloat16 instructions')
    assert set_inference_dtype(model, 'float32') == 'float32'
    assert 'forward' not in vars(model) and len(told) == 1


class TTAModel(BaseTTAModel):
    def merge_preds(self, data_samples_list: list) -> list:
        return data_samples_list


def test_the_model_in_a_wrapper_and_its_deep_copies() -> None:
    inner = Model()
    set_inference_dtype(TTAModel(inner), 'bfloat16')
    twin = copy.deepcopy(inner)
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        (expected,) = inner(image)
        assert torch.equal(twin(image)[0], expected)
        for parameter in twin.parameters():
            parameter.zero_()
        assert not twin(image)[0].any() and torch.equal(inner(image)[0], expected)


TASKS = {'classification': classifier, 'segmentation': segmentor, 'detection': detector, 'video': recognizer}


@pytest.fixture(scope='module')
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    folder = tmp_path_factory.mktemp('inputs')
    pictures = [picture(seed) for seed in range(2)]
    clip = folder / 'clip.mp4'
    write_clip(clip)
    return {**dict.fromkeys(TASKS, pictures), 'video': [str(clip)]}


@pytest.mark.parametrize('task', TASKS)
def test_inferencers_of_all_tasks(task: str, inputs: dict, tmp_path: Path) -> None:
    """Predictions of float32 type, close to those of float32, at several resolutions."""
    cfg: Config = TASKS[task]()
    checkpoint = save_checkpoint(cfg, tmp_path / 'model.pth', std=0.1 if task == 'detection' else None)
    whole = make_inferencer(cfg, checkpoint, 'cpu')
    half = make_inferencer(cfg, checkpoint, 'cpu', dtype='bfloat16')
    by_config = make_inferencer(cfg, checkpoint, 'cpu', {'inference_dtype': 'bfloat16'})
    assert half.model.backbone.blocks[0].mlp.fc1.weight.dtype == torch.bfloat16
    assert 'inference_dtype' not in cfg
    for resolution in (64, 80, 128):
        options: dict = dict(resolution=resolution, return_datasamples=True)
        expected, actual, same = (
            [scores(task, one) for one in inferencer(inputs[task], **options)['predictions']]
            for inferencer in (whole, half, by_config)
        )
        for first, second, third in zip(expected, actual, same, strict=True):
            assert second.dtype == torch.float32 and torch.equal(second, third)
            assert not torch.equal(first, second)
            assert F.cosine_similarity(first.flatten(), second.flatten(), dim=0) > 0.99
    assert half(inputs[task])['predictions']


def scores(task: str, sample: object) -> Tensor:
    """Return what a model gave for an input; of detections, the scores of all, best first."""
    if task == 'segmentation':
        return sample.seg_logits.data  # type: ignore[attr-defined]
    return sample.pred_instances.scores if task == 'detection' else sample.pred_score  # type: ignore[attr-defined]


def test_a_bad_type_names_the_choices() -> None:
    with pytest.raises(ValueError, match="inference_dtype='half' is not a type of inference: choose from"):
        make_inferencer(classifier(), None, 'cpu', dtype='half')


def test_logits_of_many_classes_stay_apart() -> None:
    """The last layer is float32: in bfloat16, close logits of a thousand classes would be equal."""
    torch.manual_seed(0)
    model = load_model(classifier(num_classes=1000), device='cpu')
    image = torch.randn(1, 3, 64, 64)
    set_inference_dtype(model, 'bfloat16')
    [sample] = model.predict(image)
    assert sample.pred_score.unique().numel() > 990
