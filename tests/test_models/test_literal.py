"""Outputs and gradients of the backbone equal those of the slow, literal reference."""

from __future__ import annotations

import literal
import pytest
import torch
from torch import Tensor

from resformer_mm.models import ResFormer
from resformer_mm.models.layers import sinusoid_map

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=24)
PATCH = 8
SIZES = [
    (32, 32),  # 4 x 4 tokens
    (24, 48),  # 3 x 6
    (37, 50),  # 5 x 7, padded at the bottom and the right
    (8, 8),  # 1 x 1
    (8, 40),  # 1 x 5
    (16, 8),  # 2 x 1
    (9, 15),  # 2 x 2, mostly padding
]
WINDOWS = dict(with_cls_token=False, out_type='raw', window_size=3, window_block_indices=(0,))


def build(seed: int = 0, **kwargs) -> ResFormer:
    """A small backbone with random numbers in every parameter, also those of LPE."""
    model = ResFormer(ARCH, patch_size=PATCH, **{'out_type': 'raw', **kwargs}).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = 'norm' in name and name.endswith('weight')
            parameter.copy_(1 + 0.2 * noise if is_scale else 0.3 * noise)
    return model


def exact(model: ResFormer) -> dict[str, Tensor]:
    """The parameters in float64, as leaves of their own."""
    return {name: value.detach().double().requires_grad_() for name, value in model.named_parameters()}


def draw(size: tuple[int, int], batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(size[0] + size[1]))


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('with_cls_token', [True, False])
def test_tokens_equal_the_literal_ones(size: tuple[int, int], with_cls_token: bool) -> None:
    model = build(with_cls_token=with_cls_token, out_indices=(0, 1))
    image = draw(size)
    reference = literal.forward(exact(model), image.double(), num_heads=2)
    with torch.no_grad():
        inference = model(image)
    training = model.train()(image)  # the other path: gradients on, nothing cached
    for outputs in (inference, training):
        for actual, expected in zip(outputs, reference, strict=True):
            torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('config', 'gpe'),
    [
        (dict(global_position=dict(type='GlobalPositionEmbedding', conv=False)), True),
        (dict(global_position=None), False),
        (dict(local_position=None), True),
        (dict(final_norm=False), True),
    ],
    ids=['GPE without convolution', 'no GPE', 'no LPE', 'no final norm'],
)
def test_outputs_of_alternatives(config: dict, gpe: bool) -> None:
    model, image = build(**config), draw((21, 33))
    with torch.no_grad():
        (actual,) = model(image)
    expected = literal.forward(exact(model), image.double(), num_heads=2, gpe=gpe)[-1]
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('size', [(24, 48), (32, 32), (37, 50), (8, 40), (16, 8)], ids=str)
def test_window_attention(size: tuple[int, int]) -> None:
    """Windows of 3 x 3 tokens: those that divide the map, and those that do not."""
    model, image = build(**WINDOWS, out_indices=(0, 1)), draw(size)
    with torch.no_grad():
        outputs = model(image)
    reference = literal.forward(exact(model), image.double(), 2, window=3, windowed=(0,))
    for actual, expected in zip(outputs, reference, strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'windowed'),
    [(dict(), ()), (dict(with_cls_token=False), ()), (WINDOWS, (0,))],
    ids=['class token', 'no class token', 'windows'],
)
@pytest.mark.parametrize('size', [(21, 33), (8, 24), (24, 48)], ids=str)
def test_gradients(config: dict, windowed: tuple[int, ...], size: tuple[int, int]) -> None:
    model, image = build(**config).double().train(), draw(size).double().requires_grad_()
    params, image_too = exact(model), image.detach().clone().requires_grad_()
    (actual,) = model(image)
    expected = literal.forward(params, image_too, 2, window=3, windowed=windowed)[-1]
    weights = torch.randn(actual.shape, generator=torch.Generator().manual_seed(1)).double()
    (actual * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(image.grad, image_too.grad, rtol=1e-5, atol=1e-6)
    for name, parameter in model.named_parameters():
        scale = params[name].grad.abs().max().item()
        # The sine-cosine map is float32 in the model, whatever the parameters are.
        torch.testing.assert_close(
            parameter.grad, params[name].grad, rtol=0, atol=1e-5 * scale + 1e-9, msg=name
        )


def test_gradient_by_finite_differences() -> None:
    """The derivative along a random direction equals a central difference."""
    model, image = build().double(), draw((16, 24), batch=1).double()
    direction = [torch.randn_like(p) for p in model.parameters()]

    def loss(step: float) -> Tensor:
        moved = {name: p + step * d for (name, p), d in zip(model.named_parameters(), direction, strict=True)}
        (tokens,) = torch.func.functional_call(model, moved, (image,))
        return tokens.sin().sum()

    slope = torch.autograd.functional.jacobian(loss, torch.zeros((), dtype=torch.float64))
    with torch.no_grad():
        difference = (loss(1e-5) - loss(-1e-5)) / 2e-5
    torch.testing.assert_close(slope, difference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('grid', [(1, 1), (1, 5), (3, 2), (14, 14)], ids=str)
def test_sinusoid(grid: tuple[int, int]) -> None:
    actual = sinusoid_map(24, grid)[0].permute(1, 2, 0)
    torch.testing.assert_close(actual.double(), literal.sinusoid(24, grid), rtol=0, atol=2e-6)
