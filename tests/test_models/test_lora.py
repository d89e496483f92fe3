"""Low-rank adapters: equal to the base at first, alone in training, merged into the weights."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from resformer_mm.checkpoints import CheckpointError, load_pretrained, read_weights
from resformer_mm.checkpoints.adapters import join_file, merge_file, separate_file
from resformer_mm.models import ResFormer, VideoResFormer
from resformer_mm.models.layers import merge_adapters, merge_state

ARCH = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=64)
LORA = dict(r=2, alpha=6)
CLIP, IMAGE = (2, 3, 2, 24, 16), (2, 3, 24, 16)
KINDS = [
    (ResFormer, IMAGE, {}),
    (
        ResFormer,
        IMAGE,
        dict(out_type='featmap', with_cls_token=False, window_size=2, window_block_indices=(0,)),
    ),
    (VideoResFormer, CLIP, dict(num_frames=2)),
    (VideoResFormer, CLIP, dict(num_frames=2, attention_type='joint_space_time')),
]
ALL = ('qkv', 'proj', 'fc1', 'fc2')


def build(kind: type[ResFormer] = ResFormer, **settings) -> ResFormer:
    torch.manual_seed(0)
    return kind(**{'arch': ARCH, 'patch_size': 8, **settings})


def draw(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def output(model: ResFormer, image: Tensor) -> Tensor:
    result = model(image)
    return result[-1] if isinstance(result, tuple) else result


def randomise(model: nn.Module) -> nn.Module:
    """Weights of which each one matters."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2, generator=generator)
    return model


@pytest.mark.parametrize('kind, shape, settings', KINDS)
def test_adapters_change_nothing_at_first_and_merge_exactly(kind, shape, settings) -> None:
    base = build(kind, **settings).eval()
    model = build(kind, **settings, lora=dict(LORA, target_modules=ALL)).eval()
    state = model.state_dict()
    for name, value in base.state_dict().items():
        assert torch.equal(state[name], value), name
    assert torch.equal(output(base, draw(shape)), output(model, draw(shape)))

    randomise(model)
    base.load_state_dict(merge_state(model.state_dict()))
    expected = output(model, draw(shape))
    assert not torch.allclose(expected, output(randomise(build(kind, **settings)).eval(), draw(shape)))
    torch.testing.assert_close(output(base, draw(shape)), expected, rtol=1e-5, atol=1e-5)
    number = sum(name.endswith('lora_a') for name in model.state_dict())
    assert merge_adapters(model) == number > 0 and model.lora is None and model.settings['lora'] is None
    assert list(model.state_dict()) == list(base.state_dict())
    assert torch.equal(output(base, draw(shape)), output(model, draw(shape)))


def test_the_layer_is_its_formula() -> None:
    layer = randomise(build(lora=LORA)).blocks[1].attn.qkv
    x = draw((5, 32))
    expected = x @ layer.weight.T + layer.bias + 3.0 * (x @ layer.lora_a.T @ layer.lora_b.T)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('kind, shape, settings', KINDS[::2])
def test_adapters_alone_are_trained(kind, shape, settings, autocast: bool) -> None:
    model = build(kind, **settings, lora=dict(LORA, modules_to_save=['norm.bias']), frozen_stages=1)
    model.train().eval()
    model.train()
    before = copy.deepcopy(model.state_dict())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.rpartition('.')[2] for name in trained} == {'lora_a', 'lora_b', 'bias'}
    assert not any(name.startswith('blocks.0.') for name in before if 'lora' in name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):  # the gradient of A is zero while B is
        optimizer.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            loss = output(model, draw(shape)).float().square().sum()
        loss.backward()
        assert {name for name, p in model.named_parameters() if p.grad is not None} == trained
        optimizer.step()
    if kind is VideoResFormer:  # its temporal branch starts at zero, and is frozen here
        trained = {name for name in trained if 'temporal' not in name}
    for name, value in model.state_dict().items():
        if name in trained:
            assert not torch.equal(value, before[name]), name
        elif 'temporal' not in name or 'lora' not in name:
            assert torch.equal(value, before[name]), name


def test_checkpoints_with_and_without_adapters(tmp_path: Path) -> None:
    base, trained = randomise(build()).eval(), randomise(build(lora=LORA)).eval()
    torch.save(base.state_dict(), tmp_path / 'base.pth')
    torch.save(trained.state_dict(), tmp_path / 'trained.pth')
    expected = output(trained, draw(IMAGE))

    started = build(lora=LORA).eval()
    report = load_pretrained(started, tmp_path / 'base.pth')
    assert all('lora_' in name for name in report.missing) and report.missing
    assert torch.equal(output(started, draw(IMAGE)), output(base, draw(IMAGE)))
    load_pretrained(started, tmp_path / 'trained.pth')
    assert torch.equal(output(started, draw(IMAGE)), expected)

    merged = build().eval()
    assert 'adapters' in ' '.join(load_pretrained(merged, tmp_path / 'trained.pth').notes)
    torch.testing.assert_close(output(merged, draw(IMAGE)), expected, rtol=1e-5, atol=1e-5)
    folder = trained.save_pretrained(tmp_path / 'saved')
    assert torch.equal(output(ResFormer.from_pretrained(folder.parent), draw(IMAGE)), expected)

    with pytest.raises(ValueError, match='alpha / r = 3 .* 4: set lora.alpha'):
        build(lora=dict(r=2, alpha=8)).load_state_dict(trained.state_dict())
    state = trained.state_dict()
    del state['blocks.1.attn.qkv.lora_b']
    torch.save(state, tmp_path / 'broken.pth')
    with pytest.raises(CheckpointError, match='blocks.1.attn.qkv is incomplete, .*lora_b'):
        load_pretrained(merged, tmp_path / 'broken.pth')


@pytest.mark.parametrize(
    'lora, message',
    [
        (dict(rank=3), 'unknown keys .*rank'),
        (dict(r=0), 'lora.r must be a positive integer'),
        (dict(alpha=-1), 'lora.alpha must be positive'),
        (dict(dropout=1), 'lora.dropout must be at least 0'),
        (dict(target_modules=['qkv', 'query']), r"\['query'\]: choose from \['fc1', 'fc2', 'proj', 'qkv'\]"),
        (dict(target_modules=[]), 'is empty'),
        (dict(modules_to_save=['temporal_']), "has 'temporal_', but no parameter"),
    ],
)
def test_bad_settings(lora: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(lora=lora).train()
    with pytest.raises(ValueError, match='frozen_stages=3 leaves no block'):
        build(lora=LORA, frozen_stages=3)


def test_layers_that_are_trained_themselves_have_no_adapter() -> None:
    model = build(VideoResFormer, num_frames=2, lora=dict(LORA, modules_to_save='temporal_'))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    adapted = {name.partition('.lora_')[0] for name in trained if 'lora_' in name}
    assert {name.rpartition('.')[2] for name in adapted} == {'qkv', 'proj'} and len(adapted) == 6
    assert not any('temporal_' in name for name in trained if 'lora_' in name)
    assert {name for name, _ in model.named_parameters() if 'temporal_' in name} <= trained


def test_files_are_merged_separated_and_joined(tmp_path: Path) -> None:
    base, trained = randomise(build()), build(lora=LORA)
    torch.save(base.state_dict(), tmp_path / 'base.pth')
    load_pretrained(trained, tmp_path / 'base.pth')
    with torch.no_grad():
        for name, value in trained.named_parameters():
            if 'lora_' in name or name == 'norm.bias':
                value.normal_(generator=torch.Generator().manual_seed(2))
    state = {f'backbone.{name}': value for name, value in trained.state_dict().items()}
    state['head.fc.weight'] = draw((3, 32))
    meta = dict(dataset_meta=dict(classes=('a', 'b', 'c')))
    torch.save(dict(state_dict=state, meta=meta), tmp_path / 'trained.pth')

    kept, shared = separate_file(tmp_path / 'trained.pth', tmp_path / 'base.pth', tmp_path / 'small.pth')
    small = read_weights(tmp_path / 'small.pth')
    assert kept == len(small.state) and kept + shared == len(state)
    assert {name for name in small.state if 'lora_' not in name} == {'head.fc.weight', 'backbone.norm.bias'}
    join_file(tmp_path / 'small.pth', tmp_path / 'base.pth', tmp_path / 'joined.pth')
    joined = read_weights(tmp_path / 'joined.pth')
    assert joined.state.keys() == state.keys() and joined.dataset_meta['classes'] == ('a', 'b', 'c')
    assert all(torch.equal(joined.state[name], value) for name, value in state.items())

    assert merge_file(tmp_path / 'joined.pth', tmp_path / 'merged.pth') == 6
    merged = build().eval()
    load_pretrained(merged, tmp_path / 'merged.pth')
    expected = output(trained.eval(), draw(IMAGE))
    torch.testing.assert_close(output(merged, draw(IMAGE)), expected, rtol=1e-5, atol=1e-5)

    other = randomise(build(in_channels=3, out_type='raw'))
    torch.nn.init.ones_(other.blocks[0].norm1.weight)
    torch.save(other.state_dict(), tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match='other.pth is not what the adapters .* its weights are others'):
        join_file(tmp_path / 'small.pth', tmp_path / 'other.pth', tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='base.pth has no adapters'):
        merge_file(tmp_path / 'base.pth', tmp_path / 'x.pth')
    torch.nn.init.ones_(other.blocks[0].attn.qkv.weight)
    torch.save(other.state_dict(), tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match='was not trained from .*blocks.0.attn.qkv.weight'):
        separate_file(tmp_path / 'trained.pth', tmp_path / 'other.pth', tmp_path / 'x.pth')
