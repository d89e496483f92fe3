"""Stochastic depth that computes the branches of the kept samples alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from resformer_mm.models import ResFormer, VideoResFormer
from resformer_mm.models.layers import DropPath, Packing, SubsetDropPath
from resformer_mm.registry import MODELS

ARCH = dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64)
SUBSET = dict(type='SubsetDropPath')


def build(kind: type[ResFormer] = ResFormer, **kwargs) -> ResFormer:
    torch.manual_seed(0)
    model = kind(arch=ARCH, patch_size=8, drop_path_rate=0.5, drop_path=SUBSET, **kwargs)
    for name, parameter in model.named_parameters():
        if 'position' in name or 'temporal' in name:
            nn.init.normal_(parameter, std=0.2)
    return model.train()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(('number', 'rate', 'kept'), [(8, 0.25, 6), (5, 0.3, 4), (1, 0.9, 1), (3, 0.999, 1)])
def test_as_many_samples_as_the_rate_says_keep_the_branch(number: int, rate: float, kept: int) -> None:
    layer, seen = SubsetDropPath(rate).train(), []

    def branch(tokens: Tensor, _) -> Tensor:
        seen.append(tokens)
        return tokens.sin()

    tokens = draw(number, 3, 2)
    base = 10 * draw(number, 3, 2)
    added = layer.add(base, tokens, branch) - base
    changed = added.flatten(1).abs().sum(1) > 0
    assert int(changed.sum()) == kept == len(seen[0])  # nothing is computed for the others
    torch.testing.assert_close(added[changed], tokens[changed].sin() * number / kept, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.eval().add(base, tokens, branch), base + tokens.sin())


def test_every_sample_is_as_likely_and_the_expectation_is_kept() -> None:
    torch.manual_seed(0)
    layer, tokens = SubsetDropPath(0.4).train(), torch.ones(5, 1, 1)
    draws = torch.stack(
        [layer.add(torch.zeros(5, 1, 1), tokens, lambda x, _: x)[:, 0, 0] for _ in range(4000)]
    )
    assert draws.unique().tolist() == pytest.approx([0, 5 / 3])
    assert (draws > 0).sum(1).unique().tolist() == [3]  # not binomial as in DropPath
    assert draws.mean(0).tolist() == pytest.approx([1] * 5, abs=0.06)
    independent = DropPath(0.4).train()
    counts = torch.stack([independent(torch.ones(5)) for _ in range(200)]).gt(0).sum(1)
    assert len(counts.unique()) > 3


@pytest.mark.parametrize('kind', [ResFormer, VideoResFormer])
@pytest.mark.parametrize('is_packed', [False, True])
def test_gradients_are_those_of_the_kept_branches(
    kind: type[ResFormer], is_packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against stochastic depth by factors, given the same draws."""
    model, size = build(kind, out_type='raw'), (4, 3, 2, 24, 16) if kind is VideoResFormer else (4, 3, 24, 16)
    image = draw(*size).requires_grad_()
    kept, found = [], []

    def record(self: SubsetDropPath, like: Tensor, number: int) -> Tensor | None:
        drawn = subset(self, like, number)
        factors = torch.ones(number)
        if drawn is not None:
            factors = torch.zeros(number).index_fill(0, drawn, number / len(drawn))
        kept.append(factors)
        return drawn

    subset = SubsetDropPath.draw
    for drawn in (record, lambda self, like, number: kept.pop(0)):
        monkeypatch.setattr(SubsetDropPath, 'draw', drawn)
        if drawn is not record:
            for name in ('add', 'add_packed'):
                monkeypatch.setattr(SubsetDropPath, name, getattr(DropPath, name))
        outputs = model.forward_copies([image, image[:, ..., :8]]) if is_packed else model(image)
        outputs = torch.utils._pytree.tree_flatten(outputs)[0]
        loss = sum(tokens.sin().sum() for tokens in outputs)
        found.append((*outputs, *torch.autograd.grad(loss, (image, *model.parameters()))))
    assert not kept
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_no_gradient_from_dropped_samples_reaches_a_branch() -> None:
    torch.manual_seed(0)
    layer, linear = SubsetDropPath(0.5).train(), nn.Linear(3, 3)
    tokens = draw(6, 4, 3).requires_grad_()
    out = layer.add(torch.zeros(6, 4, 3), tokens, lambda x, _: linear(x))
    out.square().sum().backward()
    changed = tokens.grad.flatten(1).abs().sum(1) > 0
    assert int(changed.sum()) == 3
    assert torch.equal(changed, out.detach().flatten(1).abs().sum(1) > 0)


def test_a_batch_of_one_is_computed_as_without() -> None:
    model, image = build(), draw(1, 3, 16, 24)
    torch.testing.assert_close(model(image), model.eval()(image))
    assert all(parameter.grad is None for parameter in model.parameters())
    model.train()(image)[0].sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    'local_position',
    [dict(type='LocalPositionEmbedding'), dict(type='DistanceBias', grid_size=4, slope=4.0)],
    ids=['term', 'bias by grid'],
)
def test_images_of_several_sizes_keep_their_own_padding(local_position: dict) -> None:
    """Samples that are dropped in a padded batch leave the others as they are alone."""
    model = build(out_type='featmap', local_position=local_position)
    sizes = [(32, 24), (16, 32), (24, 8), (32, 32)]
    image = draw(4, 3, 32, 32)
    torch.manual_seed(2)
    (maps,) = model(image, sizes)
    torch.manual_seed(2)
    drops = [block.drop_path for block in model.blocks]
    plan = [[drop.draw(image, 4) for _ in range(2)] for drop in drops]
    for number, (height, width) in enumerate(sizes):
        tokens, grid = model._embed(image[number : number + 1, :, :height, :width])
        for block, of_block in zip(model.blocks, plan):
            for branch, kept in enumerate(of_block):
                factor = 1.0 if kept is None else float((kept == number).any()) * 4 / len(kept)
                added = (
                    block.attn(block.norm1(tokens), grid) if branch == 0 else block.mlp(block.norm2(tokens))
                )
                tokens = tokens + factor * added
        rows, columns = grid
        alone = model.norm(tokens)[:, 1:].transpose(1, 2).unflatten(2, grid)
        torch.testing.assert_close(maps[number : number + 1, :, :rows, :columns], alone, rtol=1e-4, atol=1e-4)


def test_autocast_and_checkpointing() -> None:
    results = []
    for with_cp in (False, True):
        model = build(with_cp=with_cp)
        torch.manual_seed(4)
        with torch.autocast('cpu', torch.bfloat16):
            (tokens,) = model(draw(4, 3, 24, 16))
        assert tokens.dtype == torch.float32
        tokens.sin().sum().backward()
        results.append([tokens.detach(), *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    model = build().to(torch.bfloat16)
    assert model(draw(4, 3, 24, 16).bfloat16())[0].dtype == torch.bfloat16


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < '2.5', reason='torch.compile of earlier versions cannot trace this')
@pytest.mark.parametrize(
    ('kind', 'is_packed'), [(ResFormer, False), (ResFormer, True), (VideoResFormer, True)]
)
def test_it_compiles_without_a_graph_break(kind: type[ResFormer], is_packed: bool) -> None:
    torch.compiler.reset()
    results = []
    for compiled in (False, True):
        model = build(kind)
        if compiled:
            model.compile(backend=lambda graph, inputs: graph, fullgraph=True)
        for number, side in ((4, 32), (6, 16)):
            shape = (number, 3, 2, side, side) if kind is VideoResFormer else (number, 3, side, side)
            images = [draw(*shape), draw(*shape)[..., : side - 8]]
            torch.manual_seed(3)
            outputs = model.forward_copies(images) if is_packed else [model(image) for image in images]
            tokens = torch.utils._pytree.tree_flatten(outputs)[0]
            sum(one.sin().sum() for one in tokens).backward()
            results.append((compiled, [one.detach() for one in tokens]))
        results.append((compiled, [parameter.grad for parameter in model.parameters()]))
    plain, other = ([found for of, found in results if of is compiled] for compiled in (False, True))
    for one, two in zip(plain, other, strict=True):
        for wanted, actual in zip(one, two, strict=True):
            # Gradients add up in another order, of terms that cancel.
            torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-4)


def test_the_rows_of_samples() -> None:
    packing = Packing([(3, 2), (2, 1)], [(1, 2), (1, 1)])
    rows = packing.rows_of([torch.tensor([2, 0]), torch.tensor([1])])
    assert rows.tolist() == [4, 5, 0, 1, 7]
    assert packing.subset([2, 1]).shapes == [(2, 2), (1, 1)]


def test_a_config_names_it() -> None:
    model = MODELS.build(
        dict(
            type='resformer_mm.ResFormer',
            arch=ARCH,
            drop_path_rate=0.2,
            drop_path=dict(type='SubsetDropPath'),
        )
    )
    assert [type(block.drop_path) for block in model.blocks] == [SubsetDropPath] * 3
    assert [block.drop_path.rate for block in model.blocks] == pytest.approx([0, 0.1, 0.2])
    assert type(ResFormer(arch=ARCH).blocks[0].drop_path) is DropPath
    for wrong in (dict(type='NoGlobalPosition', embed_dims=2), dict(type='SubsetDropPath', share=2)):
        with pytest.raises(ValueError, match=r'backbone.drop_path=.* is not a stochastic depth'):
            ResFormer(arch=ARCH, drop_path=wrong)
