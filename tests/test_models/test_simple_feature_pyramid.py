"""The pyramid and the layer norm for maps, against their formulas written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.models import LayerNorm2d, SimpleFeaturePyramid
from resformer_mm.registry import MODELS


def build(**kwargs) -> SimpleFeaturePyramid:
    torch.manual_seed(0)
    neck = SimpleFeaturePyramid(12, 8, **kwargs).double()
    for parameter in neck.parameters():
        nn.init.normal_(parameter, std=0.5)
    return neck


def literal_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Every position of ``(C, H, W)`` for itself."""
    out = torch.empty_like(x)
    for y in range(x.shape[1]):
        for column in range(x.shape[2]):
            values = x[:, y, column]
            variance = ((values - values.mean()) ** 2).mean()
            out[:, y, column] = (values - values.mean()) / (variance + 1e-6).sqrt() * weight + bias
    return out


def literal_doubling(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A position becomes 2 x 2, each with its own matrix."""
    out = x.new_zeros(weight.shape[1], 2 * x.shape[1], 2 * x.shape[2])
    for dy in (0, 1):
        for dx in (0, 1):
            out[:, dy::2, dx::2] = torch.einsum('chw,cd->dhw', x, weight[:, :, dy, dx])
    return out if bias is None else out + bias[:, None, None]


def literal_halving(x: Tensor) -> Tensor:
    rows = [
        torch.stack([x[:, y : y + 2, c : c + 2].amax(dim=(1, 2)) for c in range(0, x.shape[2], 2)], dim=1)
        for y in range(0, x.shape[1], 2)
    ]
    return torch.stack(rows, dim=1)


def literal_level(x: Tensor, params: dict[str, Tensor], scale: float) -> Tensor:
    if scale == 4:
        x = literal_doubling(x, params['resample.0.weight'], None)
        x = literal_norm(x, params['resample.1.weight'], params['resample.1.bias'])
        x = x * 0.5 * (1 + torch.erf(x / 2**0.5))
        x = literal_doubling(x, params['resample.3.weight'], params['resample.3.bias'])
    elif scale == 2:
        x = literal_doubling(x, params['resample.0.weight'], params['resample.0.bias'])
    elif scale == 0.5:
        x = literal_halving(x)
    x = torch.einsum('chw,dc->dhw', x, params['lateral_conv.weight'][:, :, 0, 0])
    x = literal_norm(x, params['lateral_norm.weight'], params['lateral_norm.bias'])
    height, width = x.shape[1:]
    padded = F.pad(x, (1, 1, 1, 1))
    x = sum(
        torch.einsum(
            'chw,dc->dhw', padded[:, dy : dy + height, dx : dx + width], params['conv.weight'][:, :, dy, dx]
        )
        for dy in range(3)
        for dx in range(3)
    )
    return literal_norm(x, params['norm.weight'], params['norm.bias'])


@pytest.mark.parametrize('size', [(4, 6), (5, 3), (1, 1)], ids=str)
@pytest.mark.parametrize(('scales', 'num_outs'), [((4, 2, 1, 0.5), 5), ((2, 1, 0.5), 5), ((1,), 1)])
def test_levels(scales: tuple, num_outs: int, size: tuple[int, int]) -> None:
    neck, x = build(scale_factors=scales, num_outs=num_outs), torch.randn(2, 12, *size, dtype=torch.float64)
    levels = neck((torch.zeros(1), x))  # the last map is the one that counts
    assert len(levels) == num_outs
    for level, module, scale in zip(levels, neck.levels, scales):
        params = dict(module.named_parameters())
        for actual, image in zip(level, x, strict=True):
            torch.testing.assert_close(actual, literal_level(image, params, scale))
    for finer, coarser in zip(levels[len(scales) - 1 :], levels[len(scales) :]):
        torch.testing.assert_close(coarser, finer[:, :, ::2, ::2])


def test_every_parameter_gets_a_gradient() -> None:
    neck = build()
    sum(level.sin().sum() for level in neck((torch.randn(1, 12, 4, 4, dtype=torch.float64),))).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in neck.parameters())


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(scale_factors=(4, 3)), r'list of powers of two, got \(4, 3\)'),
        (dict(scale_factors=(0,)), 'powers of two, got .0'),
        (dict(scale_factors=4), 'list of powers of two, got 4'),
        (dict(scale_factors=(4, 'a')), 'list of powers of two'),
        (dict(num_outs=3), 'num_outs is 3, but scale_factors name 4 levels'),
        (dict(scale_factors=()), 'give at least one'),
    ],
)
def test_bad_arguments(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimpleFeaturePyramid(12, **config)


@pytest.mark.parametrize('shape', [(1, 24, 4, 4), (1, 16, 12)])
def test_a_backbone_that_does_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"neck.in_channels is 12, but the backbone returns .*'featmap'"):
        SimpleFeaturePyramid(12)((torch.zeros(shape),))


def test_grids_of_levels_are_the_sizes_of_their_maps() -> None:
    neck, grids = SimpleFeaturePyramid(12), [(5, 9), (1, 2)]
    for index, grid in enumerate(grids):
        sizes = [tuple(level.shape[2:]) for level in neck((torch.zeros(1, 12, *grid),))]
        assert [level[index] for level in neck.level_grids(grids)] == sizes


# ----------------------------------------------------------------------------------- the norm


@pytest.mark.parametrize('channels_last', [False, True])
def test_layer_norm_of_a_map(channels_last: bool) -> None:
    norm, x = LayerNorm2d(6).double(), torch.randn(2, 6, 3, 5, dtype=torch.float64)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    out = norm(x)
    assert out.is_contiguous() and norm.eps == 1e-6 and isinstance(norm, nn.LayerNorm)
    for actual, image in zip(out, x, strict=True):
        torch.testing.assert_close(actual, literal_norm(image, norm.weight, norm.bias))


def test_layer_norm_in_low_precision() -> None:
    """float32 under autocast, whatever comes in; bfloat16 where the weights are."""
    norm, x = LayerNorm2d(16), 5 + torch.randn(1, 16, 4, 4)
    with torch.autocast('cpu', torch.bfloat16):
        out = norm(x.bfloat16())
    torch.testing.assert_close(out, norm(x.bfloat16().float()))
    out.sum().backward()
    assert norm.weight.grad.isfinite().all()
    low = norm.bfloat16()(x.bfloat16())
    assert low.dtype == torch.bfloat16 and (low.float() - out).abs().max() < 0.05


def test_layer_norm_in_convolutions_of_mmcv() -> None:
    ConvModule = pytest.importorskip('mmcv.cnn').ConvModule

    module = ConvModule(3, 8, 3, padding=1, norm_cfg=dict(type='resformer_mm.LayerNorm2d', eps=1e-6))
    assert type(module.norm) is LayerNorm2d and module.norm.eps == 1e-6 and module.conv.bias is None
    assert module(torch.randn(1, 3, 5, 4)).shape == (1, 8, 5, 4)
    assert MODELS.get('LayerNorm2d') is LayerNorm2d
