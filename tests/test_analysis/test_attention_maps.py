"""Attention weights against loops and against the attention itself; maps of one image."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from torch import Tensor, nn

from resformer_mm.analysis import attention_maps, attention_pictures
from resformer_mm.analysis.attention_maps import (
    ImageMaps,
    attention_weights,
    image_maps,
    read_image,
    run_to_block,
)
from resformer_mm.analysis.attention_pictures import plot_image_maps
from resformer_mm.apis import load_model
from resformer_mm.models import ResFormer, VideoResFormer
from resformer_mm.models.layers import Attention, LocalPosition, WindowAttention
from resformer_mm.registry import MODELS

DIM, HEADS = 16, 2
ARCH = dict(embed_dims=DIM, num_layers=3, num_heads=HEADS, feedforward_channels=16)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.fixture(scope='module')
def relative_bias() -> dict:
    """Config of a bias per head and distance of rows and columns."""

    class DistanceBiasForTest(LocalPosition):
        def __init__(self, embed_dims: int, num_heads: int) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.randn(num_heads))

        def attention_bias(self, grid: tuple[int, int], with_cls_token: bool) -> Tensor:
            height, width = grid
            bias = torch.zeros(height * width + with_cls_token, height * width + with_cls_token)
            for i in range(height * width):
                for j in range(height * width):
                    distance = abs(i // width - j // width) + abs(i % width - j % width)
                    bias[i + with_cls_token, j + with_cls_token] = distance
            return self.factor[:, None, None] * bias

    MODELS.register_module(name='DistanceBiasForTest', module=DistanceBiasForTest)
    yield dict(type='DistanceBiasForTest')
    MODELS.module_dict.pop('DistanceBiasForTest')


@pytest.fixture(scope='module')
def reversal() -> dict:
    """Config of a rotation by 180 degrees of the keys in odd columns, and of no query: a change of sign."""

    class Reversal(LocalPosition):
        def __init__(self, embed_dims: int, num_heads: int) -> None:
            super().__init__()

        def rotate(self, query: Tensor, key: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
            column = torch.arange(grid[0] * grid[1]) % grid[1]
            return query, key * (-1.0) ** column[:, None]

    MODELS.register_module(name='Reversal', module=Reversal)
    yield dict(type='Reversal')
    MODELS.module_dict.pop('Reversal')


def literal_weights(
    attn: Attention, tokens: Tensor, grid: tuple[int, int], bias: Tensor | None, reverses: bool = False
) -> Tensor:
    """Softmax of every query over the keys it sees, one number after the other, ``(B, heads, N, N)``."""
    batch, length, channels = tokens.shape
    dim = channels // attn.num_heads
    weights = torch.zeros(batch, attn.num_heads, length, length)
    size = getattr(attn, 'window_size', 0)
    for b in range(batch):
        qkv = tokens[b] @ attn.qkv.weight.T + attn.qkv.bias
        for head in range(attn.num_heads):
            part = slice(head * dim, (head + 1) * dim)
            query, key = qkv[:, :channels][:, part], qkv[:, channels : 2 * channels][:, part]
            for i in range(length):
                scores = {}
                for j in range(length):
                    cells = [(n // grid[1] // size, n % grid[1] // size) for n in (i, j)] if size else [0, 0]
                    if cells[0] == cells[1]:
                        place = j - attn.with_cls_token
                        column = place % grid[1] % size if size else place % grid[1]
                        sign = -1 if reverses and place >= 0 and column % 2 else 1
                        scores[j] = sign * float(query[i] @ key[j]) / math.sqrt(dim)
                        scores[j] += 0 if bias is None else float(bias[head, i, j])
                total = sum(math.exp(score) for score in scores.values())
                for j, score in scores.items():
                    weights[b, head, i, j] = math.exp(score) / total
    return weights


GRID = (3, 5)


def make_attention(kind: str, bias: dict, rotation: dict) -> tuple[Attention, Tensor]:
    torch.manual_seed(0)
    local = {'lpe': dict(type='LocalPositionEmbedding'), 'bias': bias, 'rotation': rotation}
    local = local.get(kind.removeprefix('window, '))
    if kind.startswith('window'):  # neither side is a multiple of 2
        attn = WindowAttention(DIM, HEADS, with_cls_token=False, local_position=local, window_size=2)
    else:
        attn = Attention(DIM, HEADS, with_cls_token=kind != 'no cls', local_position=local)
    nn.init.normal_(attn.qkv.weight, std=0.5)
    nn.init.normal_(attn.qkv.bias)
    return attn.eval(), torch.randn(2, GRID[0] * GRID[1] + attn.with_cls_token, DIM)


KINDS = pytest.mark.parametrize(
    'kind',
    [
        'plain',
        'no cls',
        'lpe',
        'bias',
        'rotation',
        'window',
        'window, lpe',
        'window, bias',
        'window, rotation',
    ],
)


@KINDS
@torch.no_grad()
def test_weights_are_the_literal_ones(kind: str, relative_bias: dict, reversal: dict) -> None:
    attn, tokens = make_attention(kind, relative_bias, reversal)
    bias = None
    if 'bias' in kind:  # by rows and columns that tokens are apart: inside a window as in the whole map
        bias = attn.local_position.attention_bias(GRID, attn.with_cls_token)
    weights = attention_weights(attn, tokens, GRID)
    expected = literal_weights(attn, tokens, GRID, bias, 'rotation' in kind)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(attention_weights(attn, tokens, GRID, [7, 0]), weights[:, :, [7, 0]])


@KINDS
@torch.no_grad()
def test_weights_times_values_are_the_output(
    kind: str, relative_bias: dict, reversal: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the fused kernel computes, with nothing added and projected after it (a fresh LPE adds zeros)."""
    monkeypatch.setattr(attention_maps, 'WEIGHTS_AT_ONCE', 7)  # in several parts
    attn, tokens = make_attention(kind, relative_bias, reversal)
    attn.proj = nn.Identity()
    weights = attention_weights(attn, tokens, GRID)
    value = attn.qkv(tokens)[..., 2 * DIM :].unflatten(2, (HEADS, -1))
    out = torch.einsum('bhqk,bkhd->bqhd', weights, value).flatten(2)
    torch.testing.assert_close(out, attn(tokens, GRID), rtol=0, atol=1e-5)


def test_an_attention_of_another_class_is_refused() -> None:
    class LinearAttention(Attention):
        pass

    with pytest.raises(ValueError, match='weights of LinearAttention are not known'):
        attention_weights(LinearAttention(DIM, HEADS), torch.zeros(1, 5, DIM), (2, 2))


@pytest.mark.parametrize('block', [0, 1, 2, -1, -3])
@torch.no_grad()
def test_what_goes_through_a_block(block: int) -> None:
    torch.manual_seed(0)
    backbone = ResFormer(ARCH, patch_size=8).eval()  # returns the class token alone
    every = ResFormer(ARCH, patch_size=8, out_indices=(0, 1, 2), out_type='raw').eval()
    every.load_state_dict(backbone.state_dict())
    image = torch.randn(2, 3, 17, 30)
    passed = run_to_block(backbone, image, block)
    assert passed.grid == (3, 4)
    assert passed.attn is backbone.blocks[block].attn
    outputs = every(image)
    torch.testing.assert_close(passed.features, outputs[block])
    if block % 3:
        before = backbone.blocks[block].norm1(outputs[block % 3 - 1])
        torch.testing.assert_close(passed.attn_input, before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())


def test_blocks_that_do_not_run() -> None:
    backbone = ResFormer(ARCH, patch_size=8, out_indices=1, out_type='featmap')
    assert run_to_block(backbone, torch.zeros(1, 3, 16, 16)).attn is backbone.blocks[1].attn
    for block in (2, -3):
        with pytest.raises(ValueError, match=f'no block {block}: blocks 0 to 1 run'):
            run_to_block(backbone, torch.zeros(1, 3, 16, 16), block)


def classifier(**backbone) -> nn.Module:
    torch.manual_seed(0)
    pipeline = [
        dict(type='resformer_mm.LoadImage'),
        dict(type='resformer_mm.ResizeCenterCrop', resolution=64),
        dict(type='PackInputs'),
    ]
    config = dict(
        default_scope='mmpretrain',
        model=dict(
            type='ImageClassifier',
            data_preprocessor=dict(mean=MEAN, std=STD, to_rgb=True, num_classes=3),
            backbone=dict(type='resformer_mm.ResFormer', arch=ARCH, patch_size=8, **backbone),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=DIM),
        ),
        test_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(pipeline=pipeline))),
    )
    return load_model(Config(config), device='cpu')


@pytest.fixture(scope='module')
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wide image in colours, whose sides at the resolutions of the tests are whole."""
    path = tmp_path_factory.mktemp('photo') / 'photo.png'
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((144, 96), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.mark.parametrize('resolution', [28, 56])
def test_the_image_as_the_model_sees_it(photo: Path, resolution: int) -> None:
    inputs, picture = read_image(classifier(), photo, resolution)
    with Image.open(photo) as image:
        short = int(resolution * 256 / 224)
        image = image.resize((short * 3 // 2, short), Image.Resampling.BICUBIC)
        left, top = (image.width - resolution) // 2, (image.height - resolution) // 2
        expected = np.asarray(image.crop((left, top, left + resolution, top + resolution)))
    np.testing.assert_array_equal(picture, expected)
    normalised = (picture.astype(float) - MEAN) / STD
    np.testing.assert_allclose(inputs[0].permute(1, 2, 0).numpy(), normalised, atol=1e-5)


@pytest.mark.parametrize('head', [None, 1])
@pytest.mark.parametrize('with_cls_token', [True, False])
@torch.no_grad()
def test_maps_of_an_image(photo: Path, with_cls_token: bool, head: int | None) -> None:
    out_type = 'cls_token' if with_cls_token else 'avg_featmap'
    model = classifier(with_cls_token=with_cls_token, out_type=out_type)
    maps = image_maps(model, photo, 28, block=1, head=head, point=(0.9, 0.3))  # token 3 of row 1
    assert (maps.resolution, maps.patch_size) == (28, 8)
    assert maps.point == pytest.approx((25.2, 8.4))
    assert maps.image.shape == (28, 28, 3)
    inputs, _ = read_image(model, photo, 28)
    passed = run_to_block(model.backbone, inputs, 1)
    first = int(with_cls_token)
    weights = literal_weights(passed.attn, passed.attn_input, (4, 4), None)[0]
    row = (weights.mean(dim=0) if head is None else weights[head])[0 if with_cls_token else 7]
    expected = row[first:].reshape(4, 4) * (16 + first)
    np.testing.assert_allclose(maps.attention, expected.numpy(), atol=1e-4)
    features = passed.features[0, first:].double()
    cosine = [float(f @ features[7] / (f.norm() * features[7].norm())) for f in features]
    np.testing.assert_allclose(maps.similarity.ravel(), cosine, atol=1e-5)
    assert maps.similarity[1, 3] == pytest.approx(1, abs=1e-6)


@pytest.mark.operators('mmseg')
def test_a_rectangle_through_a_segmentation_pipeline(photo: Path) -> None:
    """Labels are not asked for, the sides stay in proportion, and the input may be padded."""
    torch.manual_seed(0)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(200, 48), keep_ratio=True),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ]
    config = dict(
        default_scope='mmseg',
        model=dict(
            type='EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor',
                mean=MEAN,
                std=STD,
                bgr_to_rgb=True,
                test_cfg=dict(size_divisor=32),
            ),
            backbone=dict(
                type='resformer_mm.ResFormer',
                arch=ARCH,
                patch_size=8,
                out_type='featmap',
                with_cls_token=False,
            ),
            decode_head=dict(
                type='FCNHead',
                in_channels=DIM,
                channels=4,
                num_convs=1,
                num_classes=3,
                norm_cfg=dict(type='BN'),
            ),
            test_cfg=dict(mode='whole'),
        ),
        test_dataloader=dict(dataset=dict(pipeline=pipeline)),
    )
    maps = image_maps(load_model(Config(config), device='cpu'), photo, 36, point=(1, 1))
    assert maps.image.shape == (36, 54, 3)
    assert maps.attention.shape == maps.similarity.shape == (8, 8)  # 64 x 64 with the padding
    assert maps.similarity[4, 6] == pytest.approx(1, abs=1e-6)  # the token of the image's last pixel


def test_bad_input(photo: Path, tmp_path: Path) -> None:
    model = classifier()
    broken = tmp_path / 'broken.png'
    broken.write_bytes(photo.read_bytes()[:-500])
    for path in (broken, tmp_path / 'missing.png', tmp_path):
        with pytest.raises(ValueError, match=f'cannot read the image {path}'):
            image_maps(model, path, 64)
    with pytest.raises(ValueError, match='7 x 7 pixels is smaller than one patch of 8 x 8'):
        image_maps(model, photo, 7)
    with pytest.raises(ValueError, match='no head 2: the heads are 0 to 1'):
        image_maps(model, photo, 64, head=2)
    with pytest.raises(ValueError, match='no block 3: blocks 0 to 2 run'):
        image_maps(model, photo, 64, block=3)
    with pytest.raises(ValueError, match=r'point \(0.5, -1\) is outside'):
        image_maps(model, photo, 64, point=(0.5, -1))
    model.backbone = VideoResFormer(dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16))
    with pytest.raises(ValueError, match='a ResFormer as its backbone, not VideoResFormer'):
        image_maps(model, photo, 64)
    with pytest.raises(ValueError, match='a model of images with a ResFormer as its backbone, not Linear'):
        model.backbone = nn.Linear(1, 1)
        image_maps(model, photo, 64)
    with pytest.raises(ValueError, match=r'no `test_dataloader.dataset.pipeline`'):
        model.cfg = Config(dict())
        read_image(model, photo, 64)


def test_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps lie where their tokens lie in pixels, padding included; a kind has one colour scale."""
    figures = []
    monkeypatch.setattr(attention_pictures, 'save_figure', lambda figure, path: figures.append(figure))
    rng = np.random.default_rng(0)
    columns = [
        ImageMaps(
            size,
            rng.integers(0, 256, (size, 36, 3)).astype(np.uint8),
            8,
            (30.0, 4.0),
            rng.exponential(size=(size // 8, 5)).astype(np.float32),
            rng.uniform(-1, 1, (size // 8, 5)).astype(np.float32),
            (size // 8, 5),
        )
        for size in (16, 32)
    ]
    plot_image_maps(columns, 'unused.png', 'class token', 'Title')
    axes_of_figure = np.array(figures[0].axes).reshape(3, 3)
    panels, bars = axes_of_figure[:, :2], axes_of_figure[:, 2]
    assert 'attention of the class token' in bars[1].get_ylabel()
    assert 'similarity' in bars[2].get_ylabel()
    for column, axes in zip(columns, panels.T):
        height = column.resolution
        np.testing.assert_array_equal(axes[0].images[0].get_array(), column.image)
        assert all(panel.get_xlim() == (0, 40) for panel in axes)
        assert axes[0].get_title() == f'{height} × 36 px\n{height // 8} × 5 tokens'
        for panel, values in zip(axes[1:], (column.attention, column.similarity)):
            behind, over = panel.images
            assert behind.get_extent() == [0, 36, height, 0]
            assert over.get_extent() == [0, 40, height, 0]
            np.testing.assert_array_equal(over.get_array(), values)
            assert panel.lines[0].get_xydata().tolist() == [[30, 4]]
    for row in panels[1:]:
        assert row[0].images[1].get_clim() == row[1].images[1].get_clim()
    assert all(axes.get_ylabel() == 'y (pixels)' for axes in panels[:, 0])
    assert all(axes.get_xlabel() == 'x (pixels)' for axes in panels[-1])
