"""The backbone for clips: against a slow literal reference, against images, and by itself."""

from __future__ import annotations

import pytest
import torch
import video_literal
from torch import Tensor, nn

from resformer_mm.models import ResFormer, VideoResFormer
from resformer_mm.models.layers import (
    MLP,
    CheckpointedMLP,
    LocalPosition,
    TemporalAttention,
    TemporalPositionEmbedding,
)
from resformer_mm.registry import MODELS

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=24)
PATCH = 8
TYPES = ('divided_space_time', 'joint_space_time', 'space_only')
CLIPS = [  # frames, height, width
    (4, 16, 24),
    (3, 21, 9),  # 3 x 2 tokens, padded; the temporal embedding is interpolated
    (1, 8, 8),  # one frame of one token
    (5, 8, 17),
]


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random numbers in every parameter, also those that start at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = 'norm' in name and name.endswith('weight')
            parameter.copy_(1 + 0.2 * noise if is_scale else 0.3 * noise)
    return model


def build(attention_type: str = 'divided_space_time', **kwargs) -> VideoResFormer:
    settings = dict(patch_size=PATCH, num_frames=4, out_type='raw') | kwargs
    return randomise(VideoResFormer(ARCH, attention_type=attention_type, **settings)).eval()


def draw(frames: int, height: int, width: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(frames + height + width)
    return torch.randn(batch, 3, frames, height, width, generator=generator)


def exact(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().double().requires_grad_() for name, value in model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize('clip', CLIPS, ids=str)
@pytest.mark.parametrize('attention_type', TYPES)
def test_outputs_and_gradients_are_the_literal_ones(attention_type: str, clip: tuple) -> None:
    model, clips = build(attention_type), draw(*clip)
    params = exact(model)
    expected = video_literal.forward(params, clips.double(), 2, attention_type)
    with torch.no_grad():
        torch.testing.assert_close(model(clips).double(), expected, rtol=1e-5, atol=1e-5)
    actual = model.train()(clips)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (actual * weights).sum().backward()
    (expected * weights).sum().backward()
    for name, parameter in model.named_parameters():
        wanted = params[name].grad
        scale = wanted.abs().max().clamp(min=1.0)
        torch.testing.assert_close(
            parameter.grad.double() / scale, wanted / scale, rtol=1e-4, atol=1e-4, msg=name
        )


def test_without_class_token() -> None:
    model, clips = build(with_cls_token=False), draw(3, 16, 9)
    expected = video_literal.forward(exact(model), clips.double(), 2, 'divided_space_time')
    torch.testing.assert_close(model(clips).double(), expected, rtol=1e-5, atol=1e-5)


def test_more_sequences_than_a_gpu_takes_at_once(monkeypatch) -> None:
    model, clips = build(), draw(3, 21, 17)
    expected = model(clips)
    monkeypatch.setattr(TemporalAttention, 'max_sequences', 5)  # of 3 x 3 positions x 2 heads
    torch.testing.assert_close(model(clips), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('attention_type', TYPES)
def test_what_out_type_gives(attention_type: str) -> None:
    clips = draw(3, 17, 24)  # 3 x 3 tokens
    raw = build(attention_type, out_indices=(0, 1))(clips)
    for out_type, expected in {
        'cls_token': [tokens[:, 0] for tokens in raw],
        'avg_featmap': [tokens[:, 1:].mean(1) for tokens in raw],
        'featmap': [tokens[:, 1:].transpose(1, 2).reshape(2, 16, 3, 3, 3) for tokens in raw],
    }.items():
        outputs = build(attention_type, out_type=out_type, out_indices=(0, 1))(clips)
        assert isinstance(outputs, tuple)
        for actual, wanted in zip(outputs, expected, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5)
        last = build(attention_type, out_type=out_type)(clips)
        torch.testing.assert_close(last, expected[-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('frames', [1, 2, 5, 8])
@pytest.mark.parametrize('attention_type', ['divided_space_time', 'space_only'])
def test_a_repeated_frame_is_the_image_at_the_start(attention_type: str, frames: int) -> None:
    """A new model with the weights of an image model: 1e-6 of numbers around 1, in float32."""
    image_model = randomise(ResFormer(ARCH, patch_size=PATCH)).eval()
    torch.manual_seed(0)
    model = VideoResFormer(ARCH, patch_size=PATCH, num_frames=8, attention_type=attention_type).eval()
    missing, unexpected = model.load_state_dict(image_model.state_dict(), strict=False)
    assert not unexpected and all('temporal_' in name for name in missing)
    image = draw(1, 21, 33)
    with torch.no_grad():
        expected, actual = image_model(image[:, :, 0])[0], model(image.expand(-1, -1, frames, -1, -1))
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-6)


def test_every_frame_is_its_image_at_the_start() -> None:
    image_model = randomise(ResFormer(ARCH, patch_size=PATCH, out_indices=0, out_type='featmap')).eval()
    model = VideoResFormer(ARCH, patch_size=PATCH, out_indices=0, out_type='featmap').eval()
    model.load_state_dict(image_model.state_dict(), strict=False)
    clips = draw(3, 24, 16)
    for t, frame in enumerate(model(clips).unbind(2)):
        torch.testing.assert_close(frame, image_model(clips[:, :, t])[0], rtol=1e-5, atol=1e-5)


def test_frames_have_an_order_only_where_time_is_attended_to() -> None:
    clips = draw(4, 16, 16)
    for attention_type in TYPES:
        model = build(attention_type, out_type='cls_token')
        apart = (model(clips) - model(clips.flip(2))).abs().max()
        assert apart < 1e-5 if attention_type == 'space_only' else apart > 1e-2


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    for attention_type in TYPES:
        model, clips = build(attention_type), draw(3, 16, 24, batch=3)
        alone = torch.cat([model(clip[None]) for clip in clips])
        torch.testing.assert_close(model(clips), alone, rtol=1e-5, atol=1e-5)


def test_temporal_embedding_of_other_numbers_of_frames() -> None:
    module = TemporalPositionEmbedding(2, 4)
    assert not module.table.any()
    assert 1.5 < TemporalPositionEmbedding(64, 8, init_std=2.0).table.std() < 2.5
    with pytest.raises(ValueError, match='temporal_init_std must be a number of at least 0, got -1.0'):
        TemporalPositionEmbedding(2, 4, init_std=-1.0)
    with torch.no_grad():
        module.table.copy_(torch.tensor([[[0.0, 1.0], [2.0, 1.0], [4.0, 1.0], [6.0, 1.0]]]))
    assert module(4) is module.table
    # A line over time stays one; outside the middle of the first and the last share it is constant.
    assert module(8)[0, :, 0].tolist() == [0.0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.0]
    assert module(2)[0, :, 0].tolist() == [1.0, 5.0]
    assert module(1)[0].tolist() == [[3.0, 1.0]]
    other = TemporalPositionEmbedding(2, 8)
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other.table, module(8))


@pytest.mark.parametrize('attention_type', TYPES)
def test_checkpointed_blocks_give_the_same_gradients(attention_type: str) -> None:
    grads = []
    for with_cp in (False, True):
        model = build(attention_type, with_cp=with_cp, drop_path_rate=0.5, out_type='cls_token').train()
        torch.manual_seed(3)
        model(draw(3, 16, 16)).square().sum().backward()
        grads.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, value in grads[0].items():
        assert value is not None, name
        torch.testing.assert_close(grads[1][name], value, rtol=1e-5, atol=1e-6)


def test_the_mlp_that_keeps_less_gives_the_same_gradients() -> None:
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    kept, grads = [], []
    for kind in (MLP, CheckpointedMLP):
        mlp, sizes = randomise(kind(8, 32, drop_rate=0.3)).train(), []
        torch.manual_seed(5)  # the same dropout, also when it is drawn again
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            out = mlp(x)
        kept.append(sizes.count(2 * 5 * 32))
        grads.append(torch.autograd.grad(out.square().sum(), (x, *mlp.parameters())))
    torch.testing.assert_close(grads[1], grads[0])
    assert kept[1] < kept[0]


def test_dropped_paths_leave_the_tokens_alone() -> None:
    model = build(drop_path_rate=1 - 1e-9, out_type='raw').train()  # only the last block drops, always
    clips = draw(3, 16, 16)
    embedded, grid = model._embed(clips)
    expected = model.norm(model.blocks[0](embedded, grid))
    torch.testing.assert_close(model(clips), expected)
    model.out_type = 'cls_token'  # whose last block computes nothing else
    torch.testing.assert_close(model(clips), expected[:, 0])


def test_bfloat16_is_close_to_float32() -> None:
    for attention_type in TYPES:
        model, clips = build(attention_type, out_type='cls_token'), draw(3, 21, 16)
        exactly = model(clips)
        with torch.autocast('cpu', torch.bfloat16):
            loosely = model(clips)
        assert loosely.dtype == torch.float32  # the last norm
        torch.testing.assert_close(loosely, exactly, rtol=0.1, atol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.skipif(torch.__version__ < '2.5', reason='torch.compile of earlier versions cannot trace this')
def test_compilation_finds_one_graph(training: bool) -> None:
    torch._dynamo.reset()
    model, clips = build(out_type='cls_token').train(training), draw(3, 17, 24)
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(compiled(clips), model(clips))


def test_frozen_stages() -> None:
    model = build(frozen_stages=1, out_type='cls_token').train()
    model(draw(2, 16, 16)).sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {
        name for name, _ in model.named_parameters() if name.startswith(('blocks.1.', 'norm.'))
    }
    assert not model.temporal_position.training and not model.blocks[0].temporal_norm.training
    assert build(frozen_stages=-1).temporal_position.table.requires_grad


def test_layer_depth() -> None:
    model = build()
    depth = {
        name: model.get_layer_depth(f'backbone.{name}', 'backbone.') for name, _ in model.named_parameters()
    }
    assert depth['temporal_position.table'] == (0, 4)
    assert depth['blocks.1.temporal_fc.weight'] == depth['blocks.1.attn.qkv.weight'] == (2, 4)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    model = VideoResFormer(ARCH, patch_size=PATCH)
    for block in model.blocks:
        assert not block.temporal_fc.weight.any() and not block.temporal_fc.bias.any()
        assert 0.015 < block.temporal_attn.qkv.weight.std() < 0.025
    assert not model.temporal_position.table.any()
    assert VideoResFormer(ARCH, attention_type='space_only').temporal_position is None


@MODELS.register_module()
class NearnessForTest(LocalPosition):
    """A bias of the scores: tokens see those in the same row alone."""

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()

    def attention_bias(self, grid: tuple[int, int], with_cls_token: bool) -> Tensor:
        rows = torch.arange(grid[0]).repeat_interleave(grid[1])
        bias = torch.where(rows[:, None] == rows, 0.0, -torch.inf)
        return torch.nn.functional.pad(bias, (1, 0, 1, 0)) if with_cls_token else bias


@pytest.mark.parametrize('attention_type', TYPES)
def test_a_bias_of_the_scores_is_that_of_each_frame(attention_type: str) -> None:
    local = dict(local_position=dict(type='NearnessForTest'), with_cls_token=False)
    model, clips = build(attention_type, out_indices=0, out_type='featmap', **local), draw(2, 16, 24)
    changed = clips.clone()
    changed[:, :, :, 8:] += 1  # the second row of patches
    first, second = (model(x) for x in (clips, changed))
    torch.testing.assert_close(first[:, :, :, 0], second[:, :, :, 0])
    assert (first[:, :, :, 1] - second[:, :, :, 1]).abs().max() > 0.1
    changed = clips.clone()
    changed[:, :, 1] += 1  # the second frame: seen from the first one in joint attention, and over time
    assert ((model(changed) - first)[:, :, 0].abs().max() > 0.01) == (attention_type != 'space_only')


def test_bad_arguments_and_inputs() -> None:
    with pytest.raises(ValueError, match=r"attention_type='both' is unknown: choose from \['divided"):
        build('both')
    for number in (0, '8', 2.5, None):
        with pytest.raises(ValueError, match=f'num_frames must be an integer of at least 1, got {number!r}'):
            build(num_frames=number)
    with pytest.raises(ValueError, match='leave window_size'):
        build(window_size=4, window_block_indices=(0,))
    with pytest.raises(ValueError, match=r'takes clips \(B, C, T, H, W\), got \(2, 3, 16, 16\).*NCTHW'):
        build()(torch.zeros(2, 3, 16, 16))
    for shape in ((2, 4, 3, 16, 16), (2, 1, 4, 16, 16), (2, 3, 0, 16, 16)):
        with pytest.raises(ValueError, match=r'takes clips \(B, 3, T, H, W\).*order of the dimensions'):
            build()(torch.zeros(shape))
    with pytest.raises(ValueError, match='smaller than one patch'):
        build()(torch.zeros(1, 3, 2, 7, 16))
