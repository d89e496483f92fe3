"""One forward pass for batches of several sizes against one pass for each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from resformer_mm.models import FrameResFormer, ResFormer, VideoResFormer
from resformer_mm.models.layers import Attention, Block, DropPath, Packing

ARCH = dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64)
SIZES = ((48, 64), (37, 50), (16, 16), (8, 40))
CLIPS = ((4, 24, 32), (3, 17, 24), (1, 8, 8))  # frames, height, width
TYPES = ('divided_space_time', 'joint_space_time', 'space_only')


def build(kind: type[ResFormer] = ResFormer, **kwargs) -> ResFormer:
    torch.manual_seed(0)
    model = kind(arch=ARCH, patch_size=8, **kwargs)
    for name, parameter in model.named_parameters():
        # zero at the start, which would hide mistakes
        if 'position' in name or 'lora_b' in name or 'temporal' in name:
            nn.init.normal_(parameter, std=0.2)
    return model


def batches(*sizes: tuple[int, ...], number: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(number + index, 3, *size, generator=generator) for index, size in enumerate(sizes)]


def flatten(outputs: object) -> list[Tensor]:
    return torch.utils._pytree.tree_flatten(outputs)[0]


@pytest.mark.parametrize(
    ('options', 'pool'),
    [
        ({}, 'cls'),
        ({}, 'gap'),
        ({}, None),
        (dict(out_type='raw', out_indices=(0, 2)), 'gap'),
        (dict(out_type='featmap', out_indices=(1, 2), with_cls_token=False), None),
        (dict(out_type='featmap', output_cls_token=True, out_indices=(0, 1)), None),
        (dict(out_type='avg_featmap', final_norm=False), 'gap'),
        (
            dict(out_type='avg_featmap', with_cls_token=False, window_size=3, window_block_indices=(0, 2)),
            'gap',
        ),
        (
            dict(local_position=None, global_position=dict(type='LearnedPositionEmbedding', grid_size=4)),
            'cls',
        ),
        (dict(with_cp=True), 'cls'),
        (dict(lora=dict(r=2)), 'cls'),
    ],
)
def test_outputs_and_gradients(options: dict, pool: str | None) -> None:
    compare(build(**options).train(), batches(*SIZES), pool)


@pytest.mark.parametrize(
    ('options', 'pool'),
    [
        ({}, 'cls'),
        (dict(out_type='cls_token', with_cp=True, drop_path_rate=0.5), None),
        (dict(out_type='raw', out_indices=(0, 2), drop_path_rate=0.5), 'gap'),
        (dict(out_type='featmap', output_cls_token=True), None),
        (dict(out_type='avg_featmap', with_cls_token=False, drop_path_rate=0.5), 'gap'),
        (dict(lora=dict(r=2)), 'cls'),
    ],
)
@pytest.mark.parametrize('attention_type', TYPES)
def test_clips_of_other_sizes_and_numbers_of_frames(
    attention_type: str, options: dict, pool: str | None
) -> None:
    model = build(VideoResFormer, attention_type=attention_type, num_frames=4, **options)
    compare(model.train(), batches(*CLIPS), pool)


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('kind', ['DropPath', 'SubsetDropPath'])
@pytest.mark.parametrize('options', [{}, dict(out_type='featmap', out_indices=(0, 2))])
def test_stochastic_depth_is_drawn_as_in_separate_passes(kind: str, options: dict, with_cp: bool) -> None:
    model = build(drop_path_rate=0.6, drop_path=dict(type=kind), with_cp=with_cp, **options)
    compare(model.train(), batches(*SIZES), None if options else 'cls')


def compare(model: ResFormer, images: list[Tensor], pool: str | None) -> None:
    """Check outputs and gradients of one pass against those of a pass for each batch."""
    assert model.packs_copies
    results = []
    for together in (False, True):
        model.zero_grad(set_to_none=True)
        torch.manual_seed(5)  # of stochastic depth
        if together:
            outputs = model.forward_copies(images, pool)
        else:
            outputs = [model.forward_pooled(x, pool) if pool else model(x) for x in images]
        outputs, spec = torch.utils._pytree.tree_flatten(outputs)
        sum(x.sin().sum() for x in outputs).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        results.append((outputs, spec, gradients))
    (wanted, wanted_spec, wanted_gradients), (actual, spec, gradients) = results
    assert spec == wanted_spec
    for one, other in zip(wanted, actual):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
    for name, gradient in wanted_gradients.items():
        assert (gradient is None) == (gradients[name] is None), name
        if gradient is None:  # of blocks behind the last output
            continue
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize('attention_type', [None, *TYPES])
def test_autocast(attention_type: str | None) -> None:
    clips = dict(kind=VideoResFormer, attention_type=attention_type) if attention_type else {}
    model = build(drop_path_rate=0.2, drop_path=dict(type='SubsetDropPath'), **clips).train()
    images = batches(*(CLIPS if attention_type else SIZES))
    with torch.autocast('cpu', torch.bfloat16):
        torch.manual_seed(5)
        together = model.forward_copies(images, 'cls')
        torch.manual_seed(5)
        alone = [model.forward_pooled(x, 'cls') for x in images]
    for one, other in zip(flatten(alone), flatten(together)):
        assert nn.functional.cosine_similarity(one.float(), other.float(), dim=-1).min() > 0.999


def test_one_size_and_frames() -> None:
    model = FrameResFormer(arch=ARCH, patch_size=8, out_type='featmap').eval()
    (images,) = batches((40, 24))
    (together,) = model.forward_copies([images])
    torch.testing.assert_close(together, model(images))


def test_stochastic_depth_drops_whole_images() -> None:
    packing = Packing([(2, 3), (3, 2)], [(1, 2), (1, 1)])
    factors = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    assert packing.spread(factors).flatten().tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5]
    drop = DropPath(0.25).train()
    drawn = drop.draw(torch.zeros(1), 20_000)
    assert torch.equal(drawn.unique(), torch.tensor([0.0, 4 / 3]))
    assert drawn.mean() == pytest.approx(1, abs=0.02)
    assert drop.eval().draw(torch.zeros(1), 4) is None


def test_packing_is_undone() -> None:
    tokens = [torch.randn(2, 7, 3), torch.randn(4, 1, 3)]
    packing = Packing([(2, 7), (4, 1)], [(2, 3), (0, 0)])
    rows = packing.pack(tokens)
    assert rows.shape == (18, 3) and packing.samples().shapes == [(2, 1), (4, 1)]
    for one, other in zip(packing.unpack(rows), tokens):
        assert torch.equal(one, other)
    assert torch.equal(packing.first_rows(rows), torch.cat([one[:, 0] for one in tokens]))


class OtherAttention(Attention):
    """An attention with a forward pass of its own."""

    def forward(self, tokens, grid, padding=None):
        return 2 * super().forward(tokens, grid, padding)


class OtherResFormer(ResFormer):
    """A backbone with other attention."""

    attention_class = OtherAttention


class OtherTokens(ResFormer):
    """A backbone with another forward pass."""

    def block_tokens(self, *args, **kwargs):
        return super().block_tokens(*args, **kwargs)


def test_what_watches_blocks_sees_one_batch_at_a_time() -> None:
    model = build()
    hook = model.blocks[1].attn.register_forward_hook(lambda *_: None)
    assert not model.packs_copies
    hook.remove()
    assert model.packs_copies


class OtherMLPBlock(Block):
    """A block with another MLP branch."""

    def _mlp(self, tokens):
        return 2 * super()._mlp(tokens)


class OtherBlocks(ResFormer):
    """A backbone with other blocks."""

    block_class = OtherMLPBlock


class OtherDropPath(DropPath):
    """Stochastic depth of another kind."""

    def add(self, base, tokens, branch):
        return base - branch(tokens, None)


def test_other_classes_do_not_pack() -> None:
    for kind in (OtherResFormer, OtherTokens, OtherBlocks):
        assert not kind(arch=ARCH).packs_copies
    model = ResFormer(arch=ARCH)
    model.blocks[1].drop_path = OtherDropPath(0.1)
    assert not model.packs_copies
