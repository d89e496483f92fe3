"""Position modules of the field, against literal formulas and timm, and in every place they serve."""

from __future__ import annotations

import cmath
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.deployment import DeployableModel, ExportError, OnnxFormat, export, formats
from resformer_mm.models import (
    AugmentedPositionEmbedding,
    AxialRotaryPosition,
    CombinedPosition,
    ContinuousPositionBias,
    DirectionalBias,
    DistanceBias,
    FuzzyPositionEmbedding,
    GlobalPositionEmbedding,
    LearnedPositionEmbedding,
    MixedRotaryPosition,
    PositionTables,
    RelativePositionBias,
    ResFormer,
)
from resformer_mm.models.layers import CoordinateAugmentation, JointAttention, LocalPosition, token_grids

Grid = tuple[int, int]
GRIDS = [(3, 4), (5, 1), (1, 1), (4, 4)]
HEADS, DIM = 4, 32

LOCAL = {
    'distance': dict(type='DistanceBias'),
    'distance, scaled': dict(type='DistanceBias', grid_size=5, slope=0.5),
    'directions, 180': dict(type='DirectionalBias', field_of_view=180),
    'directions, 90': dict(type='DirectionalBias'),
    'directions, 45': dict(type='DirectionalBias', field_of_view=45, grid_size=6),
    'table': dict(type='RelativePositionBias', grid_size=4),
    'network': dict(type='ContinuousPositionBias', grid_size=4, hidden_dims=8),
    'axial': dict(type='AxialRotaryPosition'),
    'axial, normalised': dict(type='AxialRotaryPosition', coordinates='normalised'),
    'mixed': dict(type='MixedRotaryPosition', grid_size=5),
    'combined': dict(
        type='CombinedPosition',
        parts=[
            dict(type='LocalPositionEmbedding'),
            dict(type='AxialRotaryPosition'),
            dict(type='DirectionalBias', directed_heads=4),
            dict(type='MixedRotaryPosition'),
            dict(type='RelativePositionBias', grid_size=3),
        ],
    ),
}
EACH_LOCAL = pytest.mark.parametrize('config', LOCAL.values(), ids=LOCAL)
GLOBAL = {
    'tables': dict(type='PositionTables', grid_sizes=[4, 2]),
    'fuzzy': dict(type='FuzzyPositionEmbedding', grid_size=3),
    'augmented': dict(
        type='AugmentedPositionEmbedding',
        augmentation=dict(shift=0.2, stretch=1.2, rescale=1.5, jitter=0.5),
    ),
}
EACH_GLOBAL = pytest.mark.parametrize('config', GLOBAL.values(), ids=GLOBAL)


def places(grid: Grid) -> list[Grid]:
    return [(row, column) for row in range(grid[0]) for column in range(grid[1])]


def literal_bias(grid: Grid, value, num_heads: int = HEADS) -> Tensor:
    """Return the bias with a class token, of a function of head, query and key."""
    bias = np.zeros((num_heads, 1 + len(places(grid)), 1 + len(places(grid))))
    for head in range(num_heads):
        for i, query in enumerate(places(grid), 1):
            for j, key in enumerate(places(grid), 1):
                bias[head, i, j] = value(head, query, key)
    return torch.tensor(bias[None], dtype=torch.float32)


def check_bias(position: LocalPosition, grid: Grid, expected: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(position.attention_bias(grid, True), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            position.attention_bias(grid, False), expected[:, :, 1:, 1:], rtol=1e-5, atol=1e-5
        )


# Biases


@pytest.mark.parametrize('grid', GRIDS, ids=str)
@pytest.mark.parametrize('grid_size', [None, 7])
def test_distance_bias(grid: Grid, grid_size: int | None) -> None:
    scale = [1.0 if grid_size is None else grid_size / side for side in grid]

    def value(head: int, query: Grid, key: Grid) -> float:
        distance = math.dist(*([a * s for a, s in zip(place, scale)] for place in (query, key)))
        return -0.7 * distance / 4 ** (head + 1)

    check_bias(DistanceBias(DIM, HEADS, grid_size, slope=0.7), grid, literal_bias(grid, value))


def looks(field_of_view: int, head: int, down: int, right: int) -> bool:
    """Whether a directed head sees a token at an offset: by comparisons of integers."""
    if field_of_view == 180:
        return (down <= 0, down >= 0, right <= 0, right >= 0)[head % 4]
    if field_of_view == 90:
        ahead, aside = ((-down, right), (down, right), (-right, down), (right, down))[head % 4]
        return ahead >= abs(aside)
    # eight sectors: between 'up' and its diagonal to the right, and so on
    ahead, aside = (
        (-down, right),
        (down, -right),
        (-right, -down),
        (right, down),
        (-down, -right),
        (down, right),
        (-right, down),
        (right, -down),
    )[head % 8]
    return ahead >= aside >= 0


@pytest.mark.parametrize('grid', [(5, 4), (3, 3), (1, 6)], ids=str)
@pytest.mark.parametrize('field_of_view', [180, 90, 45])
@pytest.mark.parametrize('num_heads', [4, 6, 12])
def test_directional_bias(grid: Grid, field_of_view: int, num_heads: int) -> None:
    position = DirectionalBias(12 * num_heads, num_heads, field_of_view)
    position.set_depth(1, 5)
    directed = {4: 4, 6: 4, 12: 8}[num_heads]

    def value(head: int, query: Grid, key: Grid) -> float:
        down, right = key[0] - query[0], key[1] - query[1]
        if head >= directed:
            slope = (1 / 4, 1 / 16, 1 / 64, 1 / 256)[head - directed]
        elif looks(field_of_view, head, down, right):
            slope = (1 / 2, 1 / 4)[head // 4]
        else:
            return -1e4
        return -1.25 * slope * math.hypot(down, right)

    check_bias(position, grid, literal_bias(grid, value, num_heads))


def test_the_last_block_has_other_slopes() -> None:
    model = small(dict(type='DirectionalBias'), layers=3)
    biases = [block.attn.local_position.attention_bias((2, 2), False) for block in model.blocks]
    near = [float(bias[0, 0, 2, 0]) for bias in biases]  # one token up, by the head that looks up
    assert near == pytest.approx([-0.75, -0.5, -0.25])
    combined = small(LOCAL['combined'], layers=3)
    assert combined.blocks[2].attn.local_position.parts[2].layer_slope == 0.5


def test_relative_table_is_that_of_timm() -> None:
    timm_layers = pytest.importorskip('timm.layers')
    theirs = timm_layers.RelPosBias((4, 4), HEADS)
    nn.init.normal_(theirs.relative_position_bias_table)
    ours = RelativePositionBias(DIM, HEADS, grid_size=4)
    table = theirs.relative_position_bias_table.T.unflatten(1, (7, 7)).flip(1, 2)  # query minus key there
    ours.table.data.copy_(table)
    torch.testing.assert_close(ours.attention_bias((4, 4), False), theirs.get_bias())


@pytest.mark.parametrize('grid', [(6, 9), (2, 3), (1, 1)], ids=str)
def test_relative_table_of_another_grid(grid: Grid) -> None:
    position = RelativePositionBias(DIM, HEADS, grid_size=4)
    nn.init.normal_(position.table)
    sides = [2 * side - 1 for side in grid]
    table = F.interpolate(position.table.detach()[None], size=sides, mode='bicubic')[0]

    def value(head: int, query: Grid, key: Grid) -> float:
        return float(table[head, key[0] - query[0] + grid[0] - 1, key[1] - query[1] + grid[1] - 1])

    check_bias(position, grid, literal_bias(grid, value))


@pytest.mark.parametrize('grid', GRIDS, ids=str)
@pytest.mark.parametrize('grid_size', [None, 3])
def test_continuous_bias(grid: Grid, grid_size: int | None) -> None:
    torch.manual_seed(0)
    position = ContinuousPositionBias(DIM, HEADS, grid_size, hidden_dims=6)
    nn.init.normal_(position.out.weight)

    def logarithm(offset: int, side: int) -> float:
        x = offset / (side if grid_size is None else grid_size - 1)
        return math.copysign(math.log2(1 + 8 * abs(x)) / math.log2(9), x)

    def value(head: int, query: Grid, key: Grid) -> float:
        offset = [logarithm(key[axis] - query[axis], grid[axis]) for axis in (0, 1)]
        hidden = torch.relu(position.hidden.weight @ torch.tensor(offset) + position.hidden.bias)
        return 16 / (1 + math.exp(-float((position.out.weight[head] @ hidden).detach()))) - 8

    check_bias(position, grid, literal_bias(grid, value))


# Rotations


def literal_turn(x: Tensor, angle) -> Tensor:
    """Turn tokens ``(num_heads, N, d)`` by a function of head, token and pair of channels."""
    turned = x.clone()
    half = x.shape[2] // 2
    for head in range(x.shape[0]):
        for token in range(x.shape[1]):
            for pair in range(half):
                number = complex(x[head, token, pair], x[head, token, pair + half])
                number *= cmath.exp(1j * angle(head, token, pair))
                turned[head, token, pair], turned[head, token, pair + half] = number.real, number.imag
    return turned


@pytest.mark.parametrize('grid', GRIDS, ids=str)
@pytest.mark.parametrize('coordinates', ['tokens', 'normalised'])
def test_axial_rotation(grid: Grid, coordinates: str) -> None:
    position = AxialRotaryPosition(DIM, HEADS, base=50.0, coordinates=coordinates)
    query, key = torch.randn(2, 1, HEADS, grid[0] * grid[1], 8)

    def angle(head: int, token: int, pair: int) -> float:
        axis = pair // 2
        place = places(grid)[token][axis]
        if coordinates == 'normalised':
            place = 2 * math.pi * ((place + 0.5) / grid[axis] * 2 - 1)
        return place / 50 ** (pair % 2 / 2)

    for actual, x in zip(position.rotate(query, key, grid), (query, key)):
        torch.testing.assert_close(actual[0], literal_turn(x[0], angle), rtol=1e-5, atol=1e-5)


def test_normalised_rotation_is_that_of_timm() -> None:
    timm_layers = pytest.importorskip('timm.layers')
    theirs = timm_layers.RotaryEmbeddingDinoV3(8, temperature=100.0, rotate_half=True).eval()
    query = torch.randn(1, HEADS, 12, 8)
    turned, _ = AxialRotaryPosition(DIM, HEADS, coordinates='normalised').rotate(query, query, (3, 4))
    expected = timm_layers.apply_rot_embed_cat(query, theirs.get_embed((3, 4)), half=True)
    torch.testing.assert_close(turned, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('grid', GRIDS, ids=str)
@pytest.mark.parametrize('grid_size', [None, 7])
def test_mixed_rotation(grid: Grid, grid_size: int | None) -> None:
    torch.manual_seed(0)
    position = MixedRotaryPosition(DIM, HEADS, grid_size=grid_size)
    scale = [1.0 if grid_size is None else grid_size / side for side in grid]
    query, key = torch.randn(2, 1, HEADS, grid[0] * grid[1], 8)

    def angle(head: int, token: int, pair: int) -> float:
        return sum(
            float(position.frequencies[axis, head, pair]) * place * scale[axis]
            for axis, place in enumerate(places(grid)[token])
        )

    with torch.no_grad():
        for actual, x in zip(position.rotate(query, key, grid), (query, key)):
            torch.testing.assert_close(actual[0], literal_turn(x[0], angle), rtol=1e-4, atol=1e-5)


def test_scores_depend_on_offsets_alone() -> None:
    """What a rotation is for: equal queries and keys have equal scores at equal offsets."""
    for position in (AxialRotaryPosition(DIM, HEADS), MixedRotaryPosition(DIM, HEADS)):
        query, key = torch.randn(2, 1, HEADS, 1, 8)
        query, key = position.rotate(query.expand(-1, -1, 30, -1), key.expand(-1, -1, 30, -1), (5, 6))
        scores = (query @ key.transpose(2, 3)).unflatten(3, (5, 6)).unflatten(2, (5, 6))
        torch.testing.assert_close(
            scores[:, :, 0, 0, :4, :5], scores[:, :, 1, 1, 1:, 1:], rtol=1e-4, atol=1e-4
        )


# Maps at the input


def test_one_table_for_each_grid() -> None:
    position = PositionTables(DIM, [4, 2])
    tables = [table.table for table in position.tables]
    torch.testing.assert_close(position((4, 4)), tables[0])
    torch.testing.assert_close(position((2, 2)), tables[1])
    alone = LearnedPositionEmbedding(DIM, 4)
    alone.table = tables[0]
    torch.testing.assert_close(position((3, 6)), alone((3, 6)))  # 18 tokens are nearer to 16 than to 4
    (gradient,) = torch.autograd.grad(position((4, 4)).sum(), tables[1])
    assert not gradient.any()
    assert position.tables[1].cls_token_embedding() is None


@EACH_GLOBAL
def test_evaluation_is_exact(config: dict) -> None:
    """What moves in training moves at random, around the place where evaluation is."""
    model = small(global_position=config)
    position, image = model.global_position, torch.randn(1, 3, 24, 40)
    exact = model.eval()(image)[0]
    torch.testing.assert_close(model(image)[0], exact)
    if config['type'] == 'PositionTables':
        return
    position.train()
    torch.manual_seed(0)
    first, second = position((3, 5)), position((3, 5))
    assert (first - second).abs().max() > 1e-3
    torch.manual_seed(0)
    torch.testing.assert_close(position((3, 5)), first)


@pytest.mark.parametrize('grid', [(3, 4), (7, 5)], ids=str)
def test_without_moves_the_maps_are_those_of_evaluation(grid: Grid) -> None:
    still = AugmentedPositionEmbedding(DIM, dict()).train()
    plain = GlobalPositionEmbedding(DIM)
    plain.load_state_dict(still.state_dict())
    torch.testing.assert_close(still(grid), plain(grid), rtol=1e-5, atol=1e-5)
    fuzzy = FuzzyPositionEmbedding(DIM, 4, dict())
    torch.testing.assert_close(fuzzy.train()((4, 4)), fuzzy.eval()((4, 4)))


def test_draws_of_coordinates() -> None:
    torch.manual_seed(0)
    device = torch.device('cpu')
    exact = CoordinateAugmentation()((4, 2), device)
    assert exact[0, 0].tolist() == pytest.approx([-0.75, -0.5])
    assert exact[3, 1].tolist() == pytest.approx([0.75, 0.5])

    def spread(**settings) -> Tensor:
        augmentation = CoordinateAugmentation(**settings)
        return torch.stack([augmentation((4, 2), device) for _ in range(2000)])

    shifts = spread(shift=0.3) - exact
    torch.testing.assert_close(shifts, shifts[:, :1, :1].expand_as(shifts))
    assert 0.28 < shifts.abs().max() <= 0.3 + 1e-6
    assert shifts.mean().abs() < 0.02
    assert np.corrcoef(shifts[:, 0, 0].T.numpy())[0, 1] == pytest.approx(0, abs=0.1)
    both = (spread(rescale=2.0) / exact).log2()
    torch.testing.assert_close(both, both[:, :1, :1, :1].expand_as(both), rtol=1e-4, atol=1e-4)
    assert 0.95 < both.max() <= 1 + 1e-5
    assert both.mean().abs() < 0.05
    each = (spread(stretch=2.0) / exact).log2()[:, 0, 0]
    assert np.corrcoef(each.T.numpy())[0, 1] == pytest.approx(0, abs=0.1)
    cells = (spread(jitter=0.5) - exact) * torch.tensor([4, 2]) / 2  # in cells
    assert 0.49 < cells.abs().max() <= 0.5 + 1e-6
    assert cells.std() == pytest.approx(1 / math.sqrt(12), rel=0.02)
    assert np.corrcoef(cells[:, :2, 0, 0].T.numpy())[0, 1] == pytest.approx(0, abs=0.1)


# In the backbone

SIZES = [(21, 40), (32, 33), (8, 8), (32, 40)]


def small(local_position: dict | None = None, layers: int = 2, **kwargs) -> ResFormer:
    torch.manual_seed(0)
    arch = dict(embed_dims=DIM, num_layers=layers, num_heads=HEADS, feedforward_channels=40)
    model = ResFormer(arch, patch_size=8, local_position=local_position, **kwargs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


SETTINGS = {
    'class token': dict(out_type='cls_token'),
    'windows': dict(
        out_type='featmap', with_cls_token=False, window_size=3, window_block_indices=(0,), final_norm=False
    ),
}


@EACH_LOCAL
@pytest.mark.parametrize('settings', SETTINGS.values(), ids=SETTINGS)
def test_padded_batches_and_gradients(config: dict, settings: dict) -> None:
    """Every image of a padded batch gets what it gets alone, and no gradient is undefined."""
    model = small(config, **settings)
    batch = torch.full((len(SIZES), 3, 32, 40), torch.nan)
    together = None
    images = [torch.randn(1, 3, *size) for size in SIZES]
    for place, image in zip(batch, images):
        place[:, : image.shape[2], : image.shape[3]] = image[0]
    (together,) = model(batch, sizes=SIZES)
    for index, (image, own) in enumerate(zip(images, token_grids(SIZES, 8))):
        (alone,) = model(image)
        part = together[index : index + 1]
        part = part if part.ndim == 2 else part[:, :, : own[0], : own[1]]
        torch.testing.assert_close(part, alone, rtol=1e-4, atol=1e-4)
    together.sin().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@EACH_LOCAL
def test_bfloat16(config: dict) -> None:
    model, image = small(config, **SETTINGS['windows']), torch.randn(2, 3, 29, 40)
    with torch.no_grad():
        (exact,) = model(image)
        with torch.autocast('cpu', torch.bfloat16):
            (mixed,) = model(image)
        (rounded,) = model.bfloat16()(image.bfloat16())
    for other in (mixed, rounded):
        assert F.cosine_similarity(other.float().flatten(1), exact.flatten(1)).min() > 0.98


@pytest.mark.slow
@pytest.mark.skipif(
    torch.__version__ < formats.PROGRAM_VERSION, reason='programs are exported by PyTorch 2.13'
)
@EACH_LOCAL
def test_one_graph_serves_all_sizes(config: dict) -> None:
    """A program exported at one size, and compiled code without breaks, compute what PyTorch does."""
    model = small(config).eval()
    program = formats.capture(DeployableModel(model)).module()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend='eager', fullgraph=True, dynamic=True)
    for size in ((24, 32), (40, 16), (33, 21), (8, 30), (8, 8)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            expected = model(image)[0]
            torch.testing.assert_close(program(image)[0], expected, rtol=1e-4, atol=1e-4)
            if min(size) > 8:
                torch.testing.assert_close(compiled(image)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(
    torch.__version__ < formats.PROGRAM_VERSION, reason='programs are exported by PyTorch 2.13'
)
@EACH_GLOBAL
def test_maps_in_compiled_training_and_in_programs(config: dict) -> None:
    model = small(global_position=config)
    torch._dynamo.reset()
    compiled = torch.compile(model.train(), backend='aot_eager', fullgraph=True, dynamic=True)
    for size in ((24, 32), (40, 33)):
        compiled(torch.randn(2, 3, *size))[0].sin().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    if config['type'] == 'PositionTables':
        with pytest.raises(ExportError, match='which table is used depends on the size of the image'):
            formats.capture(DeployableModel(model.eval()))
        return
    program = formats.capture(DeployableModel(model.eval())).module()
    for size in ((24, 32), (33, 21), (8, 8)):
        image = torch.randn(1, 3, *size)
        torch.testing.assert_close(program(image)[0], model(image)[0], rtol=1e-4, atol=1e-4)


@EACH_LOCAL
def test_frames_that_are_alike_stay_alike(config: dict) -> None:
    torch.manual_seed(0)
    joint = JointAttention(DIM, HEADS, local_position=config)
    tokens = torch.randn(2, 1 + 3 * 4, DIM)
    clip = torch.cat((tokens, tokens[:, 1:], tokens[:, 1:]), dim=1)
    out = joint(clip, (3, 3, 4))
    torch.testing.assert_close(out[:, 1:13], out[:, 25:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(joint.forward_cls(clip, (3, 3, 4)), out[:, :1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(
    torch.__version__ < formats.PROGRAM_VERSION, reason='programs are exported by PyTorch 2.13'
)
def test_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip('onnxruntime')
    parts = [*LOCAL['combined']['parts'], dict(type='ContinuousPositionBias', hidden_dims=8)]
    model = DeployableModel(small(dict(type='CombinedPosition', parts=parts)).eval())
    sizes = [(24, 32), (40, 16), (33, 21), (8, 8)]
    differences = export(model, tmp_path / 'model.onnx', OnnxFormat(20, ['feature']), sizes)
    assert max(item.value for item in differences) < 1e-4


def test_weights_of_lpe_serve_a_combination() -> None:
    plain = small(dict(type='LocalPositionEmbedding'))
    parts = [dict(type='AxialRotaryPosition'), dict(type='LocalPositionEmbedding')]
    combined = small(dict(type='CombinedPosition', parts=parts))
    state = plain.state_dict()
    combined.load_state_dict(state)
    for ours, theirs in zip(combined.blocks, plain.blocks):
        torch.testing.assert_close(
            ours.attn.local_position.parts[1].conv.weight, theirs.attn.local_position.conv.weight
        )
    assert sorted(state) == sorted(plain.state_dict())  # the caller's dictionary is as it was
    combined.load_state_dict(combined.state_dict())


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: DirectionalBias(12, 3), 'at least 4 heads.*has 3'),
        (lambda: DirectionalBias(32, 4, field_of_view=60), 'field_of_view must be 180, 90 or 45, got 60'),
        (lambda: DirectionalBias(32, 8, directed_heads=6), 'directed_heads must be a multiple of 4 up to'),
        (lambda: RelativePositionBias(32, 4, 0), 'grid_size must be at least 1, got 0'),
        (lambda: ContinuousPositionBias(32, 4, 1), 'grid_size must be at least 2, or None, got 1'),
        (lambda: AxialRotaryPosition(24, 4), 'multiple of 4 channels, and the arch has 6'),
        (lambda: AxialRotaryPosition(32, 4, coordinates='pixels'), "got 'pixels'"),
        (lambda: CombinedPosition(32, 4, []), 'at least one position module'),
        (lambda: PositionTables(32, [4, 4]), r'each training grid once, got \(4, 4\)'),
        (lambda: FuzzyPositionEmbedding(32, 4, dict(jitter=-1)), 'jitter must be at least 0, got -1'),
        (lambda: AugmentedPositionEmbedding(32, dict(rescale=0.5)), 'rescale must be at least 1'),
    ],
)
def test_arguments_that_do_not_fit(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
