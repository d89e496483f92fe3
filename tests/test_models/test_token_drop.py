"""Training on a part of the patch tokens: positions and neighbours are those of the whole grid."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from resformer_mm.models import ResFormer
from resformer_mm.models.layers import Attention, KeptGrid, RandomTokenDrop, sinusoid_map

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
DROP = dict(type='RandomTokenDrop', rate=0.5)


def backbone(**kwargs) -> ResFormer:
    torch.manual_seed(0)
    model = ResFormer(**{**dict(arch=ARCH, patch_size=4, token_drop=DROP), **kwargs})
    for name, parameter in model.named_parameters():
        if 'local_position' in name:  # zero at the start, which would hide mistakes
            nn.init.normal_(parameter, std=0.2)
    return model.train()


def literal_lpe(value: Tensor, places: list[tuple[int, int]], conv: nn.Conv2d) -> Tensor:
    """Of values ``(B, n, d)`` of one head: the sum over those of the nine neighbours that are there."""
    numbers = {place: number for number, place in enumerate(places)}
    rows = []
    for row, column in places:
        total = conv.bias.expand(len(value), -1)
        for down in range(3):
            for right in range(3):
                number = numbers.get((row + down - 1, column + right - 1))
                if number is not None:
                    total = total + value[:, number] * conv.weight[:, 0, down, right]
        rows.append(total)
    return torch.stack(rows, dim=1)


def literal_tokens(model: ResFormer, image: Tensor, kept: Tensor) -> Tensor:
    """The tokens after all blocks, of images of which some patches are kept."""
    height, width = image.shape[2] // 4, image.shape[3] // 4
    places = [(int(number) // width, int(number) % width) for number in kept]
    patches = model.patch_embed.proj(image).flatten(2).transpose(1, 2)
    gpe = model.global_position.conv(sinusoid_map(16, (height, width))).flatten(2).transpose(1, 2)
    tokens = torch.cat((model.cls_token.expand(len(image), -1, -1), (patches + gpe)[:, kept]), dim=1)
    for block in model.blocks:
        heads = [part.split(8, dim=2) for part in block.attn.qkv(block.norm1(tokens)).chunk(3, dim=2)]
        attended = []
        for query, key, value in zip(*heads):
            out = (query @ key.transpose(1, 2) / math.sqrt(8)).softmax(dim=2) @ value
            term = literal_lpe(value[:, 1:], places, block.attn.local_position.conv)
            attended.append(torch.cat((out[:, :1], out[:, 1:] + term), dim=1))
        tokens = tokens + block.attn.proj(torch.cat(attended, dim=2))
        tokens = tokens + block.mlp(block.norm2(tokens))
    return model.norm(tokens)


@pytest.mark.parametrize('out_type', ['cls_token', 'avg_featmap'])
@pytest.mark.parametrize('size', [(16, 16), (12, 20)], ids=str)
def test_a_literal_model_of_the_kept_patches(out_type: str, size: tuple[int, int]) -> None:
    model, image = backbone(out_type=out_type), torch.randn(2, 3, *size)
    torch.manual_seed(3)
    (actual,) = model(image)
    torch.manual_seed(3)
    number = size[0] * size[1] // 16
    kept = torch.randperm(number)[: round(number / 2)].sort().values
    tokens = literal_tokens(model, image, kept)
    expected = tokens[:, 0] if out_type == 'cls_token' else tokens[:, 1:].mean(dim=1)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_evaluation_and_small_images_have_all_tokens() -> None:
    plain, dropping = backbone(token_drop=None), backbone(token_drop=dict(DROP, min_tokens=16))
    dropping.load_state_dict(plain.state_dict())  # it has no weights
    for size, is_whole in ((12, True), (16, False), (20, False)):
        image = torch.randn(2, 3, size, size)
        assert torch.equal(plain.train()(image)[0], dropping.train()(image)[0]) == is_whole
        assert torch.equal(plain.eval()(image)[0], dropping.eval()(image)[0])


@pytest.mark.parametrize(
    'position',
    [
        dict(type='RelativePositionBias', grid_size=4),
        dict(type='AxialRotaryPosition'),
        dict(type='DistanceBias'),
    ],
    ids=lambda position: position['type'],
)
@pytest.mark.parametrize('registers', [0, 2])
def test_biases_and_rotations_are_those_of_the_whole_grid(position: dict, registers: int) -> None:
    """Attention over the kept tokens is that over all tokens in which the others are no keys."""
    torch.manual_seed(0)
    attn = Attention(16, 2, local_position=position, num_registers=registers)
    for parameter in attn.local_position.parameters():
        nn.init.normal_(parameter)
    first = 1 + registers
    kept = torch.tensor([0, 2, 3, 7, 10])
    places = torch.cat((torch.arange(first), kept + first))
    query, key, value = torch.randn(3, 2, 2, first + 12, 8).unbind()
    valid = torch.zeros(2, first + 12, dtype=torch.bool)
    valid[:, places] = True
    expected = attn.attend(query, key, value, (3, 4), valid)[:, :, places]
    own = [one[:, :, places] for one in (query, key, value)]
    actual = attn.attend(*own, KeptGrid((3, 4), kept))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    prefix = attn.attend_prefix(own[0][:, :, :1], *own[1:], KeptGrid((3, 4), kept))
    torch.testing.assert_close(prefix, expected[:, :, :1], rtol=1e-4, atol=1e-5)


def test_all_copies_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as one pass for each, with gradients, if the same tokens are kept."""
    monkeypatch.setattr(RandomTokenDrop, 'draw', lambda self, tokens, number: torch.arange(tokens)[-number:])
    model = backbone(token_drop=dict(DROP, min_tokens=10))
    copies = [torch.randn(2, 3, size, size) for size in (16, 12)]
    assert model.packs_copies
    packed, alone = model.forward_copies(copies), [model(copy) for copy in copies]
    weights, gradients = torch.randn(16), []
    for outputs in (packed, alone):
        loss = sum((out[0] * weights).sum() for out in outputs)
        gradients.append(torch.autograd.grad(loss, [*model.parameters()]))
    for (one,), (other,) in zip(packed, alone):
        torch.testing.assert_close(one, other)
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_draws() -> None:
    drop = RandomTokenDrop(rate=0.75)
    torch.manual_seed(0)
    found = torch.stack([drop.draw(16, drop.number((4, 4))) for _ in range(400)])
    assert found.shape == (400, 4) and (found.diff(dim=1) > 0).all()
    counts = found.flatten().bincount(minlength=16)
    assert ((counts - 100).abs() < 40).all()  # more than four standard deviations
    assert [drop.number(grid) for grid in ((1, 1), (1, 2), (2, 5))] == [1, 1, 2]


def test_in_bfloat16_and_with_checkpointing() -> None:
    model, image = backbone(with_cp=True, drop_path_rate=0.1), torch.randn(2, 3, 16, 16)
    with torch.autocast('cpu', torch.bfloat16):
        model(image)[0].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(token_drop=dict(DROP, rate=1.0)), r'token_drop\.rate = 1\.0'),
        (dict(token_drop=dict(DROP, rate=0)), r'token_drop\.rate = 0'),
        (dict(token_drop=dict(DROP, min_tokens=0)), r'token_drop\.min_tokens = 0'),
        (dict(token_drop=dict(type='DropPath', rate=0.1)), 'its type is RandomTokenDrop'),
        (dict(out_type='featmap'), "out_type='featmap'"),
        (dict(window_size=2, window_block_indices=[0]), 'combined with windows'),
        (dict(token_merger=dict(type='TokenMerger', grid=2)), 'combined with token_merger'),
    ],
    ids=str,
)
def test_what_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backbone(**settings)


def test_padded_and_compiled_batches_are_refused() -> None:
    model = backbone()
    with pytest.raises(ValueError, match='padded batches'):
        model(torch.randn(2, 3, 16, 16), sizes=[(16, 16), (12, 16)])
    with pytest.raises(ValueError, match='cannot be compiled'):
        model.compile()
