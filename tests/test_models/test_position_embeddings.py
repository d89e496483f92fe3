"""Position embeddings by themselves: when the map of GPE is computed and kept, how a table is resized."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from resformer_mm.models import (
    GlobalPositionEmbedding,
    LearnedPositionEmbedding,
    LocalPositionEmbedding,
    ResFormer,
)
from resformer_mm.models.layers import Attention, global_position

ARCH = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)
GRID = (3, 5)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Grids whose sine-cosine map was computed, in order."""
    grids = []
    original = global_position.sinusoid_map

    def spy(channels: int, grid: tuple[int, int], *args, **kwargs) -> Tensor:
        grids.append(grid)
        return original(channels, grid, *args, **kwargs)

    monkeypatch.setattr(global_position, 'sinusoid_map', spy)
    return grids


@pytest.fixture
def gpe() -> GlobalPositionEmbedding:
    return GlobalPositionEmbedding(16).eval()


def fresh(gpe: GlobalPositionEmbedding, grid: tuple[int, int] = GRID) -> Tensor:
    """The embedding without what is kept."""
    embedding = F.conv2d(
        global_position.sinusoid_map(16, grid), gpe.conv.weight, gpe.conv.bias, 1, 1, groups=16
    )
    return embedding.detach().flatten(2).transpose(1, 2)


@pytest.mark.parametrize('context', [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize('training', [True, False])
def test_computed_once_per_grid(context: type, training: bool, computed: list) -> None:
    model = ResFormer(ARCH, patch_size=8).train(training)
    with context():
        for _ in range(3):
            for size in ((24, 40), (40, 24), (23, 33)):  # the last one has the grid of the first
                model(torch.zeros(2, 3, *size))
    assert computed == [(3, 5), (5, 3)]


def test_gradients_of_every_call_are_its_own(gpe: GlobalPositionEmbedding) -> None:
    with torch.no_grad():
        gpe(GRID)
    for mode in (True, False):
        gpe.train(mode)
        assert gpe(GRID).requires_grad
        for _ in range(2):  # no graph of an earlier call is used twice
            (gradient,) = torch.autograd.grad(gpe(GRID).sum(), gpe.conv.bias)
            torch.testing.assert_close(gradient, torch.full((16,), 15.0))


def test_no_gradient_free_value_reaches_training(gpe: GlobalPositionEmbedding) -> None:
    with torch.no_grad():
        kept = gpe(GRID)
    assert not kept.requires_grad
    with torch.inference_mode():
        gpe((2, 2))
    with torch.no_grad():
        assert not gpe((2, 2)).is_inference()  # could not be used beside gradients
    gpe((2, 2)).sum().backward()


def in_place(gpe: GlobalPositionEmbedding) -> None:
    with torch.no_grad():
        gpe.conv.weight.mul_(2)


def optimizer_step(gpe: GlobalPositionEmbedding) -> None:
    optimizer = torch.optim.SGD(gpe.parameters(), lr=0.5)
    with torch.enable_grad():
        gpe(GRID).sum().backward()
    optimizer.step()


def load(gpe: GlobalPositionEmbedding) -> None:
    gpe.load_state_dict(GlobalPositionEmbedding(16).state_dict())


def swap_data_as_weight_averaging_does(gpe: GlobalPositionEmbedding) -> None:
    gpe.train()
    gpe.conv.weight.data.copy_(torch.ones(16, 1, 3, 3))
    gpe.eval()


def replace_parameter(gpe: GlobalPositionEmbedding) -> None:
    gpe.conv.weight = torch.nn.Parameter(torch.ones(16, 1, 3, 3))


@pytest.mark.parametrize(
    'change',
    [in_place, optimizer_step, load, swap_data_as_weight_averaging_does, replace_parameter],
)
def test_follows_its_weights(gpe: GlobalPositionEmbedding, change) -> None:
    with torch.no_grad():
        before = gpe(GRID)
        change(gpe)
        after = gpe(GRID)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, fresh(gpe))


def test_follows_functional_calls(gpe: GlobalPositionEmbedding) -> None:
    with torch.no_grad():
        for scale in (0.0, 1.0, 2.0):
            weights = {name: p * scale for name, p in gpe.named_parameters()}
            out = torch.func.functional_call(gpe, weights, (GRID,))
            torch.testing.assert_close(out, scale * fresh(gpe))


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_follows_the_dtype(gpe: GlobalPositionEmbedding, dtype: torch.dtype) -> None:
    with torch.no_grad():
        exact = gpe(GRID)
        converted = gpe.to(dtype)(GRID)
    assert converted.dtype == dtype
    torch.testing.assert_close(converted.float(), exact, rtol=0.02, atol=0.02)


def test_follows_rounded_weights(gpe: GlobalPositionEmbedding) -> None:
    with torch.no_grad():
        before = gpe(GRID)
        after = gpe.bfloat16().float()(GRID)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, fresh(gpe), rtol=0, atol=0)


def test_autocast_leaves_it_in_float32(gpe: GlobalPositionEmbedding) -> None:
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        inside = gpe(GRID)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, fresh(gpe))


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_are_independent(gpe: GlobalPositionEmbedding, duplicate) -> None:
    with torch.no_grad():
        original = gpe(GRID)
        twin = duplicate(gpe)
        assert not twin._maps
        twin.conv.weight.data.mul_(3)
        assert not torch.equal(twin(GRID), original)
        torch.testing.assert_close(twin(GRID), fresh(twin))
        torch.testing.assert_close(gpe(GRID), original, rtol=0, atol=0)


def test_kept_maps_are_few_and_not_in_a_checkpoint(gpe: GlobalPositionEmbedding) -> None:
    with torch.no_grad():
        for width in range(1, 3 * gpe.max_kept_maps):
            gpe((2, width))
    assert len(gpe._maps) == gpe.max_kept_maps
    assert set(gpe.state_dict()) == {'conv.weight', 'conv.bias'}


# -------------------------------------------------------------------------------- learned table


@pytest.mark.parametrize('grid', [(7, 7), (3, 8), (1, 1), (4, 4)], ids=str)
@pytest.mark.parametrize('mode', ['bicubic', 'bilinear', 'nearest'])
def test_table_is_interpolated(grid: tuple[int, int], mode: str) -> None:
    table = LearnedPositionEmbedding(6, grid_size=4, interpolation=mode)
    corners = {} if mode == 'nearest' else dict(align_corners=False)
    square = table.table.reshape(1, 4, 4, 6).permute(0, 3, 1, 2)
    expected = F.interpolate(square, size=grid, mode=mode, **corners)
    expected = expected.permute(0, 2, 3, 1).reshape(1, -1, 6)
    torch.testing.assert_close(table(grid), table.table if grid == (4, 4) else expected)


@pytest.mark.parametrize('prefix', ['', 'backbone.global_position.'])
def test_table_of_another_grid_is_resized_on_loading(prefix: str) -> None:
    source, target = LearnedPositionEmbedding(6, 4), LearnedPositionEmbedding(6, 7)
    owner = target
    for name in reversed(prefix.split('.')[:-1]):
        parent = torch.nn.Module()
        parent.add_module(name, owner)
        owner = parent
    state = {prefix + name: value for name, value in source.state_dict().items()}
    kept = dict(state)
    owner.load_state_dict(state)
    torch.testing.assert_close(target.table, source((7, 7)))
    assert torch.equal(target.cls_token_table, source.cls_token_table)
    assert all(state[name] is value for name, value in kept.items())  # the caller's dict is left alone


@pytest.mark.parametrize('with_cls_token', [True, False])
def test_the_backbone_says_whether_there_is_a_class_token(with_cls_token: bool) -> None:
    learned = dict(type='LearnedPositionEmbedding', grid_size=4)
    settings = dict(with_cls_token=with_cls_token, out_type='raw', patch_size=8)
    model = ResFormer(ARCH, global_position=learned, **settings)
    assert (model.global_position.cls_token_table is not None) == with_cls_token
    model(torch.zeros(1, 3, 16, 16))[0].sum().backward()
    assert model.global_position.table.grad is not None  # in distributed training none may be unused
    assert not with_cls_token or model.global_position.cls_token_table.grad is not None
    # A model may have a class token without a row in the table, not the other way round.
    model = ResFormer(ARCH, global_position=dict(learned, with_cls_token=False), **settings)
    assert model.global_position.cls_token_table is None
    if not with_cls_token:
        with pytest.raises(ValueError, match='global_position.with_cls_token=True needs a class token'):
            ResFormer(ARCH, global_position=dict(learned, with_cls_token=True), **settings)


def test_table_that_is_not_square_is_refused() -> None:
    state = LearnedPositionEmbedding(6, 4).state_dict()
    state['table'] = torch.zeros(1, 15, 6)
    with pytest.raises(ValueError, match='table in the checkpoint has 15 rows'):
        LearnedPositionEmbedding(6, 7).load_state_dict(state)


# ------------------------------------------------------------------------------------------ LPE


def test_lpe_shares_its_filters_between_heads() -> None:
    lpe = LocalPositionEmbedding(embed_dims=12, num_heads=3)
    torch.nn.init.normal_(lpe.conv.weight)
    torch.nn.init.normal_(lpe.conv.bias)
    value = torch.randn(2, 15, 12)
    heads = [
        lpe.conv(head.transpose(1, 2).reshape(2, 4, *GRID)).flatten(2).transpose(1, 2)
        for head in value.split(4, dim=2)
    ]
    torch.testing.assert_close(lpe(value, GRID), torch.cat(heads, dim=2))


@pytest.mark.parametrize('grid', [(5, 7), (1, 4)])
@pytest.mark.parametrize('with_cls_token', [True, False])
def test_compiled_lpe_has_the_values_and_gradients_of_the_convolution(
    grid: tuple[int, int], with_cls_token: bool
) -> None:
    settings = dict(with_cls_token=with_cls_token, local_position=dict(type='LocalPositionEmbedding'))
    attention = Attention(12, 3, **settings).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    tokens = torch.randn(2, grid[0] * grid[1] + with_cls_token, 12, dtype=torch.double, requires_grad=True)
    compiled = torch.compile(attention, backend='aot_eager', fullgraph=True)
    found = []
    for module in (attention, compiled):
        out = module(tokens, grid)
        gradients = torch.autograd.grad(out.square().sum(), [tokens, *attention.parameters()])
        found.append([out, *gradients])
    torch.testing.assert_close(found[0], found[1])
