"""Registers: learned tokens beside the class token that are not part of any output."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import Tensor, nn

from resformer_mm import ResFormer, VideoResFormer
from resformer_mm.analysis.attention_maps import run_to_block
from resformer_mm.checkpoints import CheckpointError, load_pretrained
from resformer_mm.models.layers import Attention, BatchPadding

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=24)
CONFIGS = Path(__file__).parents[2] / 'configs'


def build(**settings) -> ResFormer:
    torch.manual_seed(0)
    model = ResFormer(**{'arch': ARCH, 'patch_size': 8, **settings})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def draw(*size: int) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('by_file', [False, True])
def test_a_vit_with_registers_of_timm(by_file: bool, tmp_path: Path) -> None:
    """The order of the tokens, and what attends to what."""
    vit = pytest.importorskip('timm').models.VisionTransformer(
        32,
        8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        mlp_ratio=1.5,
        num_classes=0,
        reg_tokens=3,
        no_embed_class=True,
        global_pool='',
    )
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.3)
    table = dict(type='LearnedPositionEmbedding', grid_size=4, with_cls_token=False)
    model = build(num_registers=3, global_position=table, local_position=None, out_type='raw')
    if by_file:
        torch.save(vit.state_dict(), tmp_path / 'vit.pth')
        assert not load_pretrained(model, tmp_path / 'vit.pth').unexpected
    else:
        names = {'reg_token': 'registers', 'pos_embed': 'global_position.table'}
        model.load_state_dict({names.get(name, name): value for name, value in vit.state_dict().items()})
    image = draw(32, 32)
    with torch.no_grad():
        expected = vit.eval().forward_features(image)
        (tokens,), _ = model.forward_tokens(image)
        torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(image)[0], expected[:, [0, *range(4, 20)]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('position', ['ContinuousPositionBias', 'DirectionalBias', 'AxialRotaryPosition'])
def test_registers_have_no_bias_and_no_rotation(position: str) -> None:
    """Keys of zero get the weight exp(0) of the sum, whatever the position module."""
    torch.manual_seed(0)
    heads = 4
    grid, dim = (2, 3), 32
    attn = Attention(dim, heads, local_position=dict(type=position), num_registers=2).double()
    other = Attention(dim, heads, local_position=dict(type=position)).double()
    for parameter in attn.parameters():
        nn.init.normal_(parameter, std=0.4)
    other.load_state_dict(attn.state_dict())
    query, key, value = torch.randn(3, 1, heads, 9, dim // heads, dtype=torch.float64)
    key[:, :, 1:3] = 0
    value[:, :, 1:3] = 0
    patches = [0, *range(3, 9)]
    out = attn.attend(query, key, value, grid)
    one = torch.cat((value[..., :1], torch.ones_like(value[..., :1])), dim=3)
    one[:, :, 1:3] = 0
    weight = attn.attend(query, key, one, grid)[..., 1:]  # of everything but the registers
    without = other.attend(*(x[:, :, patches] for x in (query, key, value)), grid)
    torch.testing.assert_close(out[:, :, patches], without * weight[:, :, patches])
    torch.testing.assert_close(attn.attend_prefix(query[:, :, :3], key, value, grid), out[:, :, :3])
    if 'Bias' not in position:
        return
    bias = attn._scores_bias(grid, None)
    assert bias.shape[-2:] == (9, 9)
    assert not bias[..., 1:3, :].any() and not bias[..., 1:3].any()
    torch.testing.assert_close(bias[..., patches, :][..., patches], other._scores_bias(grid, None))
    padded = attn._scores_bias(grid, [(2, 3), (1, 2)])
    torch.testing.assert_close(padded[:1], bias)
    assert not padded[1:, :, 1:3].any() and not padded[1:, ..., 1:3].any()


def test_without_registers_nothing_changes() -> None:
    torch.manual_seed(0)
    model = ResFormer(ARCH)
    torch.manual_seed(0)
    plain = ResFormer(ARCH, num_registers=0)
    assert [*model.state_dict()] == [*plain.state_dict()] and model.registers is None
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), plain.parameters()))


@pytest.mark.parametrize(
    ('settings', 'shapes'),
    [
        (dict(out_type='cls_token'), [(2, 16)]),
        (dict(out_type='raw', out_indices=(0, 1)), [(2, 13, 16)] * 2),
        (dict(out_type='raw', with_cls_token=False), [(2, 12, 16)]),
        (dict(out_type='featmap'), [(2, 16, 3, 4)]),
        (dict(out_type='avg_featmap'), [(2, 16)]),
    ],
)
def test_outputs(settings: dict, shapes: list) -> None:
    """They have no registers, depend on them, and give every parameter a gradient."""
    model, image = build(num_registers=3, **settings), draw(24, 30)
    outputs = model(image)
    assert [tuple(one.shape) for one in outputs] == shapes
    tokens, grids = model.forward_tokens(image)
    grid = grids[-1]
    assert grid == (3, 4) and tokens[-1].shape[1] == model.num_prefix_tokens + 12
    patches = tokens[-1][:, model.num_prefix_tokens :]
    expected = {
        'cls_token': tokens[-1][:, 0],
        'raw': torch.cat((tokens[-1][:, : int(model.with_cls_token)], patches), dim=1),
        'featmap': patches.transpose(1, 2).unflatten(2, grid),
        'avg_featmap': patches.mean(dim=1),
    }
    torch.testing.assert_close(outputs[-1], expected[model.out_type], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(image, pool='gap')[1], patches.mean(dim=1), rtol=1e-4, atol=1e-5)
    sum(one.sin().sum() for one in outputs).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.registers.grad.any(dim=2).all()
    with torch.no_grad():
        model.registers.mul_(torch.linspace(-2, 2, 16))
        assert (model(image)[-1] - outputs[-1]).abs().max() > 1e-3


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('out_type', ['cls_token', 'raw', 'avg_featmap'])
def test_padded_batches_and_copies(out_type: str, masked: bool) -> None:
    model = build(num_registers=2, out_type=out_type)
    sizes = [(13, 40), (24, 17), (24, 40)]
    images = [torch.randn(1, 3, *size) for size in sizes]
    batch = torch.full((3, 3, 24, 40), torch.nan)
    for place, image in zip(batch, images):
        place[:, : image.shape[2], : image.shape[3]] = image[0]
    if masked:
        model.blocks[0].register_forward_hook(lambda *_: None)
    else:
        for one, image in zip(model.forward_copies(images, 'gap'), images):
            torch.testing.assert_close(one[1], model(image, pool='gap')[1], rtol=1e-4, atol=1e-4)
    (together,) = model(batch, sizes=sizes)
    for index, (image, (height, width)) in enumerate(zip(images, sizes)):
        one = together[index : index + 1]
        if out_type == 'raw':
            rows, columns = -(-height // 8), -(-width // 8)
            patches = one[:, 1:].unflatten(1, (3, 5))
            assert not patches[:, rows:].any() and not patches[:, :, columns:].any()
            one = torch.cat((one[:, :1], patches[:, :rows, :columns].flatten(1, 2)), dim=1)
        torch.testing.assert_close(one, model(image)[0], rtol=1e-4, atol=1e-4)


def test_what_is_frozen_adapted_and_decayed() -> None:
    assert build(num_registers=2).registers.requires_grad
    assert not build(num_registers=2, frozen_stages=0).train().registers.requires_grad
    lora = dict(r=2)
    assert not build(num_registers=2, lora=lora).registers.requires_grad
    assert build(num_registers=2, lora=dict(lora, modules_to_save=['registers'])).registers.requires_grad
    assert build(num_registers=2).get_layer_depth('registers') == (0, 4)
    cfg = Config.fromfile(CONFIGS / '_base_' / 'no_decay.py')
    keys = cfg.optim_wrapper.paramwise_cfg.custom_keys
    scale = dict(type='LearnedLogTokensScale', tokens=10)
    names = [
        f'backbone.{name}' for name, _ in build(num_registers=2, attention_scale=scale).named_parameters()
    ]
    decayed = {name for name in names if not any(key in name for key in keys)}
    assert {name for name in names if 'registers' in name or 'scale' in name}.isdisjoint(decayed)
    assert len([name for name in names if '.attention_scale.' in name]) == 2


def test_checkpoints(tmp_path: Path) -> None:
    """Missing and superfluous registers are errors, unless they are allowed."""
    model, plain = build(num_registers=2), build()
    folder = model.save_pretrained(tmp_path / 'with')
    again = ResFormer.from_pretrained(tmp_path / 'with')
    assert torch.equal(again.registers, model.registers) and again.num_registers == 2
    assert folder.exists()
    # The file of a training has no settings: shapes say how many.
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'with.pth')
    implied = ResFormer.from_pretrained(tmp_path / 'with.pth')
    torch.testing.assert_close(implied(draw(24, 24))[0], model(draw(24, 24))[0])
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'without.pth')
    with pytest.raises(CheckpointError, match=r'lacks backbone\.registers'):
        load_pretrained(build(num_registers=2), tmp_path / 'without.pth')
    report = load_pretrained(model, tmp_path / 'without.pth', allow_missing=True)
    assert [*report.missing] == ['backbone.registers']
    assert torch.equal(model.registers, again.registers)
    with pytest.raises(CheckpointError, match=r'no place for registers'):
        load_pretrained(plain, tmp_path / 'with.pth')
    with pytest.raises(CheckpointError, match=r'registers.*\(1, 2, 16\)'):
        load_pretrained(build(num_registers=3), tmp_path / 'with.pth')


def test_learned_scales_in_checkpoints(tmp_path: Path) -> None:
    scale = dict(type='LearnedLogTokensScale', tokens=10)
    model, plain = build(attention_scale=scale), build()
    model.save_pretrained(tmp_path / 'with')
    again = ResFormer.from_pretrained(tmp_path / 'with')
    strength = 'blocks.1.attn.attention_scale.strength'
    assert torch.equal(again.state_dict()[strength], model.state_dict()[strength])
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'without.pth')
    with pytest.raises(CheckpointError, match=r'attention_scale\.strength'):
        load_pretrained(model, tmp_path / 'without.pth')
    assert len(load_pretrained(model, tmp_path / 'without.pth', allow_missing=True).missing) == 2
    fixed = dict(type='LogTokensScale', tokens=10)
    assert not load_pretrained(build(attention_scale=fixed), tmp_path / 'without.pth').missing


def test_a_block_on_the_way() -> None:
    passed = run_to_block(build(num_registers=2), draw(24, 32)[:1], 0)
    assert passed.features.shape == (1, 3 + 12, 16)
    padding = BatchPadding(((3, 4),), torch.ones(1, 12, dtype=torch.bool))
    assert passed.attn._valid(padding).shape == (1, 15)


def test_a_model_of_timm() -> None:
    pytest.importorskip('timm')
    from resformer_mm.timm_models import TimmResFormer

    for pool in ('token', 'avg'):
        model = TimmResFormer(ARCH, 8, num_classes=3, num_registers=2, global_pool=pool).eval()
        image = draw(24, 32)
        assert model.num_prefix_tokens == 3
        tokens = model.forward_features(image)
        assert tokens.shape == (2, 15, 16)
        torch.testing.assert_close(model.forward_head(tokens), model(image), rtol=1e-4, atol=1e-5)
        assert 'backbone.registers' in model.no_weight_decay()
        _, (map_, _) = model.forward_intermediates(image, return_prefix_tokens=True)
        assert map_[0].shape == (2, 16, 3, 4) and map_[1].shape == (2, 3, 16)


@pytest.mark.parametrize('number', [-1, 1.5, True, '4'])
def test_bad_numbers(number: object) -> None:
    with pytest.raises(ValueError, match='num_registers must be an integer of at least 0'):
        ResFormer(ARCH, num_registers=number)


def test_clips_have_none() -> None:
    with pytest.raises(ValueError, match='leave num_registers out'):
        VideoResFormer(ARCH, num_registers=2)
