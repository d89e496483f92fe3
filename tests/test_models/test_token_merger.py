"""Token mergers: a literal loop over cells, the resulting grids, and every place where a backbone merges."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from resformer_mm.analysis.complexity import count_complexity
from resformer_mm.analysis.position_maps import position_embedding
from resformer_mm.deployment import DeployableModel, OnnxFormat, ProgramFormat, export, formats
from resformer_mm.models import (
    FrameResFormer,
    ResFormer,
    StridedTokenMerger,
    TokenMerger,
    VideoResFormer,
)
from resformer_mm.models.layers import GridMerger, token_grids

Grid = tuple[int, int]
WIDTH, HEADS, HIDDEN, PATCH = 16, 2, 24, 8
ARCH = dict(embed_dims=WIDTH, num_layers=3, num_heads=HEADS, feedforward_channels=HIDDEN)
TARGET = (3, 4)
# At the target, below it, one axis on each side of it, one step, several, odd, a single row.
GRIDS = [(3, 4), (2, 2), (1, 9), (7, 3), (5, 7), (6, 8), (13, 9), (16, 25), (1, 1)]
TO_GRID = dict(type='TokenMerger', grid=TARGET)
BY_FACTOR = dict(type='StridedTokenMerger', factor=2)
exports = pytest.mark.skipif(
    torch.__version__ < formats.PROGRAM_VERSION,
    reason=f'files for all sizes need PyTorch {formats.PROGRAM_VERSION}',
)
EACH = pytest.mark.parametrize('config', [TO_GRID, BY_FACTOR, {**BY_FACTOR, 'factor': 4}])


def merger(config: dict = TO_GRID, **kwargs) -> GridMerger:
    kind = {'TokenMerger': TokenMerger, 'StridedTokenMerger': StridedTokenMerger}[config['type']]
    options = {name: value for name, value in config.items() if name != 'type'}
    torch.manual_seed(0)
    module = kind(WIDTH, HEADS, HIDDEN, **options, **kwargs)
    return randomise(module)


def randomise(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return module


def build(token_merger: dict | None, kind: type[ResFormer] = ResFormer, **kwargs) -> ResFormer:
    torch.manual_seed(0)
    return randomise(kind(ARCH, patch_size=PATCH, token_merger=token_merger, **kwargs)).eval()


def draw(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pixels(grid: Grid, batch: int = 2) -> Tensor:
    """Images of which the last patches are cut off, so that they are padded."""
    return draw(batch, 3, grid[0] * PATCH - 3 * (grid[0] > 1), grid[1] * PATCH - (grid[1] > 1))


# A literal merger ------------------------------------------------------------------------------------------


def literal_cells(length: int, config: dict) -> list[list[int]]:
    """The tokens of every cell of the next grid along an axis of a length, as the paper pads it."""
    if config['type'] == 'StridedTokenMerger':
        return [[place for place in (i, i + 1) if place < length] for i in range(0, length, 2)]
    target = TARGET[config['axis']]
    if length <= target:
        return [[place] for place in range(length)]
    number = max(math.ceil(length / 2), target)
    # Cell i covers the stretch from i / number to (i + 1) / number of the axis; a token belongs to the cell
    # in which the end of its own stretch is.
    cells: list[list[int]] = [[] for _ in range(number)]
    for place in range(length):
        (owner,) = (i for i in range(number) if i * length < (place + 1) * number <= (i + 1) * length)
        cells[owner].append(place)
    return cells


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    deviation = x - x.mean()
    return deviation / (deviation.square().mean() + norm.eps).sqrt() * norm.weight + norm.bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def literal_cell(tokens: list[Tensor], module: GridMerger) -> Tensor:
    """One token ``(C,)`` of those in a cell."""
    mean = sum(tokens) / len(tokens)
    query = module.query.weight @ layer_norm(mean, module.norm1) + module.query.bias
    both = [module.key_value.weight @ layer_norm(x, module.norm1) + module.key_value.bias for x in tokens]
    dims = WIDTH // HEADS
    heads = []
    for head in range(HEADS):
        part = slice(head * dims, (head + 1) * dims)
        scores = [(query[part] @ x[:WIDTH][part]) / math.sqrt(dims) for x in both]
        total = sum(score.exp() for score in scores)
        heads.append(sum(score.exp() / total * x[WIDTH:][part] for score, x in zip(scores, both)))
    y = mean + module.proj.weight @ torch.cat(heads) + module.proj.bias
    hidden = gelu(module.mlp.fc1.weight @ layer_norm(y, module.norm2) + module.mlp.fc1.bias)
    return y + module.mlp.fc2.weight @ hidden + module.mlp.fc2.bias


def literal(tokens: Tensor, grid: Grid, config: dict, module: GridMerger) -> tuple[Tensor, Grid]:
    """Merged tokens ``(H' * W', C)`` of one image, and their grid."""
    number = int(math.log2(config['factor'])) if 'factor' in config else 10
    x = {(row, column): tokens[row * grid[1] + column] for row in range(grid[0]) for column in range(grid[1])}
    target = TARGET if 'factor' not in config else (1, 1)
    for _ in range(number):
        if grid[0] <= target[0] and grid[1] <= target[1]:
            break
        rows, columns = (literal_cells(side, {**config, 'axis': axis}) for axis, side in enumerate(grid))
        x = {
            (i, j): literal_cell([x[row, column] for row in down for column in across], module)
            for i, down in enumerate(rows)
            for j, across in enumerate(columns)
        }
        grid = len(rows), len(columns)
    return torch.stack([x[i, j] for i in range(grid[0]) for j in range(grid[1])]), grid


@EACH
@pytest.mark.parametrize('grid', GRIDS)
def test_output_and_gradients_are_those_of_a_loop_over_cells(config: dict, grid: Grid) -> None:
    module = merger(config).double()
    tokens = draw(2, grid[0] * grid[1], WIDTH).double().requires_grad_()
    found = module(tokens, grid)
    images = [literal(image, grid, config, module) for image in tokens]
    assert all(own == module.merged_grid(grid) for _, own in images)
    expected = torch.stack([image for image, _ in images])
    torch.testing.assert_close(found, expected)
    leaves = [tokens, *module.parameters()]
    weights = draw(*found.shape).double()
    actual = torch.autograd.grad((found * weights).sum(), leaves)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves, materialize_grads=True)
    for one, other in zip(actual, wanted):
        torch.testing.assert_close(one, other)


# Grids and cells -------------------------------------------------------------------------------------------


@pytest.mark.parametrize('target', [(1, 1), (3, 4), (14, 14), (5, 16)])
def test_the_grid_is_the_target_or_smaller(target: Grid) -> None:
    module = TokenMerger(WIDTH, HEADS, HIDDEN, target)
    for rows in (1, 2, 3, 5, 13, 14, 15, 27, 28, 29, 70, 140, 252):
        for columns in (1, 4, 14, 17, 33, 64):
            assert module.merged_grid((rows, columns)) == (min(rows, target[0]), min(columns, target[1]))
            previous = rows, columns
            for step in module.steps(previous):
                for side, following in zip(previous, step):
                    assert following <= side <= 2 * following
                previous = step


@pytest.mark.parametrize('factor', [2, 4, 8])
def test_merged_tokens_are_where_larger_patches_would_be(factor: int) -> None:
    module = StridedTokenMerger(WIDTH, HEADS, HIDDEN, factor)
    for side in range(1, 40):
        grid = (side, 2 * side)
        assert (module.merged_grid(grid),) == token_grids([grid], factor)
        rows, columns = module.owners(grid)
        assert rows == [place // factor for place in range(side)]
        assert columns == [place // factor for place in range(2 * side)]


@EACH
@pytest.mark.parametrize('grid', GRIDS)
def test_owners_tell_which_tokens_change_a_merged_one(config: dict, grid: Grid) -> None:
    module = merger(config)
    rows, columns = module.owners(grid)
    height, width = module.merged_grid(grid)
    assert sorted(set(rows)) == list(range(height)) and sorted(set(columns)) == list(range(width))
    assert rows == sorted(rows) and columns == sorted(columns)
    tokens = draw(1, grid[0] * grid[1], WIDTH)
    before = module(tokens, grid)
    for row, column in ((0, 0), (grid[0] - 1, grid[1] // 2), (grid[0] // 2, grid[1] - 1)):
        changed = tokens.clone()
        changed[0, row * grid[1] + column] += 1
        differs = (module(changed, grid) - before).abs().amax(dim=(0, 2)) > 1e-6
        assert differs.nonzero().flatten().tolist() == [rows[row] * width + columns[column]]


@pytest.mark.parametrize('grid', [(3, 4), (1, 1), (2, 4), (3, 1)])
def test_a_grid_at_or_below_the_target_changes_no_bit(grid: Grid) -> None:
    image = pixels(grid)
    plain, merging = build(None, out_type='raw'), build(TO_GRID, out_type='raw')
    plain.load_state_dict(merging.state_dict(), strict=False)
    assert torch.equal(plain(image)[0], merging(image)[0])
    with torch.no_grad():
        assert torch.equal(plain(image)[0], merging(image)[0])


def test_the_order_inside_a_cell_does_not_matter() -> None:
    module, grid = merger(BY_FACTOR), (4, 6)
    tokens = draw(1, 24, WIDTH)
    swapped = tokens.unflatten(1, grid)[:, [1, 0, 3, 2]][:, :, [1, 0, 3, 2, 5, 4]].flatten(1, 2)
    torch.testing.assert_close(module(swapped, grid), module(tokens, grid))


def test_moving_by_a_cell_moves_the_result_by_a_token() -> None:
    module, grid = merger(BY_FACTOR), (4, 6)
    tokens = draw(1, 24, WIDTH).unflatten(1, grid)
    expected = module(tokens.flatten(1, 2), grid).unflatten(1, (2, 3)).roll((1, 1), (1, 2))
    moved = module(tokens.roll((2, 2), (1, 2)).flatten(1, 2), grid)
    torch.testing.assert_close(moved, expected.flatten(1, 2))


def test_equal_tokens_stay_equal_whatever_the_size_of_their_cell() -> None:
    """The mean and the attention have no weight on what a cell of one token lacks."""
    module, token = merger(), draw(1, 1, WIDTH)
    merged = module(token.expand(1, 35, -1), (5, 7))
    torch.testing.assert_close(merged, merged[:, :1].expand(1, 12, -1))


# In a backbone ---------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize('index', [0, 1, 2])
@pytest.mark.parametrize('grid', [(5, 7), (13, 9), (2, 3)])
def test_blocks_get_the_merged_tokens(config: dict, index: int, grid: Grid) -> None:
    """The blocks, with the class token unchanged by the merger, which comes before positions or later."""
    model = build({**config, 'index': index}, out_type='raw', out_indices=(0, 1, 2))
    image = pixels(grid)
    patches, found = model.patch_embed(image)
    assert found == grid
    if index == 0:
        patches = model.token_merger(patches, grid)
        found = model.token_merger.merged_grid(grid)
    tokens = torch.cat((model.cls_token.expand(2, -1, -1), patches + model.global_position(found)), dim=1)
    expected = []
    for number, block in enumerate(model.blocks):
        if number == index and index:
            tokens = torch.cat((tokens[:, :1], model.token_merger(tokens[:, 1:], found)), dim=1)
            found = model.token_merger.merged_grid(found)
        tokens = block(tokens, found)
        expected.append(tokens)
        assert model.grid_after(grid, number) == found
    expected[-1] = model.norm(expected[-1])
    for one, other in zip(model(image), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_maps_have_the_grid_of_their_block() -> None:
    model = build({**BY_FACTOR, 'index': 1}, out_type='featmap', out_indices=(0, 1, 2))
    image = pixels((5, 8))
    maps = model(image)
    assert [tuple(one.shape) for one in maps] == [(2, WIDTH, 5, 8), (2, WIDTH, 3, 4), (2, WIDTH, 3, 4)]
    tokens = build({**BY_FACTOR, 'index': 1}, out_type='raw', out_indices=(0, 1, 2))(image)
    for one, other in zip(maps, tokens):
        torch.testing.assert_close(one.flatten(2).mT, other[:, 1:])
    assert [model.stride_after(block) for block in (0, 1, -1)] == [8, 16, 16]
    assert model.map_grids([(37, 64), (8, 8)]) == [(3, 4), (1, 1)]


def test_the_cost_of_the_blocks_is_bounded() -> None:
    def flops(token_merger: dict | None, grid: Grid) -> tuple[dict, int]:
        counted = count_complexity(build(token_merger), draw(1, 3, PATCH * grid[0], PATCH * grid[1]))
        assert not counted.uncounted
        return counted.by_part, counted.flops

    plain, (parts, whole) = flops(None, (12, 16))[1], flops(TO_GRID, (12, 16))
    assert whole < plain / 2
    # Two blocks of 12 tokens and a class token, and one of the class token alone.
    assert parts['MLP'] == flops(TO_GRID, TARGET)[0]['MLP'] == 2 * (2 * 13 + 1) * WIDTH * HIDDEN
    # The linear layers of both steps: keys and values of 192 and 48 tokens, the rest of 48 and 12 cells.
    cells = 48 + 12
    linear = 2 * WIDTH**2 * (192 + 48) + (2 * WIDTH**2 + 2 * WIDTH * HIDDEN) * cells
    assert parts['token merger'] == linear
    assert 'token merger' not in flops(TO_GRID, TARGET)[0]


@EACH
@pytest.mark.parametrize('grid', [(2, 3), (9, 9)])
@pytest.mark.parametrize('with_cp', [False, True])
def test_every_parameter_gets_a_gradient_in_every_step(config: dict, grid: Grid, with_cp: bool) -> None:
    model = build(config, with_cp=with_cp).train()
    model(pixels(grid))[0].square().sum().backward()
    merged = model.token_merger.merged_grid(grid) != grid
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if 'token_merger' in name and not merged:
            assert not parameter.grad.any(), name
    assert merged is bool(model.token_merger.mlp.fc1.weight.grad.any())


def test_bfloat16_is_close() -> None:
    model, image = build(TO_GRID, out_type='avg_featmap'), pixels((9, 13))
    model.apply(lambda m: [p.data.mul_(0.3) for p in m.parameters(recurse=False)])
    (expected,) = model(image)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        (actual,) = model(image)
    torch.testing.assert_close(actual.float(), expected, rtol=0.05, atol=0.05)
    (low,) = model.bfloat16()(image.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, rtol=0.1, atol=0.1)


@EACH
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(out_type='raw', out_indices=(0, 2)),
        dict(out_type='avg_featmap', with_cls_token=False),
        dict(with_cp=True),
        dict(out_type='raw', num_registers=2, attention_scale=dict(type='LogTokensScale', tokens=5)),
    ],
)
@pytest.mark.parametrize('index', [0, 1])
def test_copies_are_those_of_separate_passes(config: dict, options: dict, index: int) -> None:
    model = build({**config, 'index': index}, **options).train()
    assert model.packs_copies
    images = [pixels(grid, batch) for batch, grid in ((2, (5, 7)), (3, (13, 9)), (1, (2, 3)))]
    pool = 'gap'
    results = []
    for run in (lambda: model.forward_copies(images, pool), lambda: [model(x, pool=pool) for x in images]):
        model.zero_grad()
        leaves = torch.utils._pytree.tree_flatten(run())[0]
        sum((leaf * draw(*leaf.shape)).sum() for leaf in leaves).backward()
        results.append([*leaves, *(p.grad for p in model.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@EACH
@pytest.mark.parametrize('out_type', ['cls_token', 'raw', 'avg_featmap', 'featmap'])
@pytest.mark.parametrize('index', [0, 1])
@pytest.mark.parametrize('masked', [False, True])
def test_an_image_of_a_padded_batch_gets_what_it_gets_alone(
    config: dict, out_type: str, index: int, masked: bool
) -> None:
    if out_type == 'featmap' and config is TO_GRID:
        return
    model = build({**config, 'index': index}, out_type=out_type, out_indices=(0, 2))
    if masked:  # a hook that watches a block sees the batch as one
        model.blocks[0].register_forward_hook(lambda *_: None)
    assert model.packs_copies is not masked
    sizes = [(104, 72), (37, 70), (8, 8), (50, 20), (37, 70)]
    images = [draw(1, 3, *size, seed=number) for number, size in enumerate(sizes)]
    batch = torch.full((len(sizes), 3, 104, 72), torch.nan)
    for place, image in zip(batch, images):
        place[:, : image.shape[2], : image.shape[3]] = image[0]
    together = model(batch, sizes=sizes)
    for number, (image, own) in enumerate(zip(images, token_grids(sizes, PATCH))):
        for block, one, other in zip((0, 2), together, model(image), strict=True):
            extent, (height, width) = model.grid_after((13, 9), block), model.grid_after(own, block)
            part = one[number : number + 1]
            if out_type == 'featmap':
                assert part.shape[2:] == extent
                outside = part.clone()
                outside[:, :, :height, :width] = 0
                assert not outside.any()
                part = part[:, :, :height, :width]
            elif out_type == 'raw':
                patches = part[:, 1:].unflatten(1, extent)[:, :height, :width].flatten(1, 2)
                part = torch.cat((part[:, :1], patches), dim=1)
            torch.testing.assert_close(part, other, rtol=1e-4, atol=1e-5)


def test_layer_depth_and_frozen_stages() -> None:
    for index in (0, 2):
        model = build({**TO_GRID, 'index': index})
        assert model.get_layer_depth('backbone.token_merger.proj.weight', 'backbone.') == (index, 5)
        for stages in (-1, 0, 1, 2, 3):
            frozen = build({**TO_GRID, 'index': index}, frozen_stages=stages).train()
            trains = {p.requires_grad for p in frozen.token_merger.parameters()}
            assert trains == {stages < index or stages < 0}
            assert frozen.token_merger.training is (stages < index or stages < 0)


def test_the_linear_layers_start_as_those_of_the_blocks() -> None:
    torch.manual_seed(0)
    module = ResFormer('tiny', token_merger=TO_GRID).token_merger
    assert (module.num_heads, module.mlp.fc1.out_features) == (3, 768)
    for layer in (module.query, module.key_value, module.proj, module.mlp.fc1, module.mlp.fc2):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05) and not layer.bias.any()
    other = ResFormer('tiny', token_merger={**TO_GRID, 'num_heads': 6, 'feedforward_channels': 96})
    assert other.token_merger.num_heads == 6 and other.token_merger.mlp.fc1.out_features == 96


# Frames and clips ------------------------------------------------------------------------------------------


def test_frames_are_images() -> None:
    frames = pixels((5, 7), 4)
    model = build(TO_GRID, FrameResFormer, out_type='featmap')
    raw = build(TO_GRID, out_type='raw')
    torch.testing.assert_close(model(frames).flatten(2).mT, raw(frames)[0][:, 1:])


@pytest.mark.parametrize('attention_type', ['divided_space_time', 'joint_space_time', 'space_only'])
def test_clips_are_merged_frame_by_frame(attention_type: str) -> None:
    """With merged patches in the place of its patch embedding, a model without a merger is the same."""
    options = dict(kind=VideoResFormer, attention_type=attention_type, num_frames=3, out_type='raw')
    model, plain = build(TO_GRID, **options), build(None, **options)
    plain.load_state_dict(model.state_dict(), strict=False)
    clip = draw(2, 3, 3, 5 * PATCH, 7 * PATCH)
    embed = plain.patch_embed.forward
    plain.patch_embed.forward = lambda frames: (model.token_merger(*embed(frames)), TARGET)
    found = model(clip)
    assert found.shape == (2, 1 + 3 * 12, WIDTH)
    torch.testing.assert_close(found, plain(clip))
    del plain.patch_embed.forward
    assert plain(clip).shape == (2, 1 + 3 * 35, WIDTH)


def test_clips_are_not_merged_between_blocks() -> None:
    with pytest.raises(ValueError, match=r'token_merger\.index'):
        build({**TO_GRID, 'index': 1}, VideoResFormer)


# What is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('config', 'options', 'message'),
    [
        (dict(grid=(0, 3)), {}, r'token_merger\.grid'),
        (dict(grid=(3,)), {}, r'token_merger\.grid'),
        (dict(grid=2.5), {}, r'token_merger\.grid'),
        (dict(index=-1), {}, r'token_merger\.index'),
        (dict(index=3), {}, r'token_merger\.index=3 is after the last block'),
        (dict(index=1), dict(out_indices=0), r'token_merger\.index=1 is after the last block'),
        (dict(num_heads=3), {}, r'token_merger\.num_heads'),
        (dict(feedforward_channels=0), {}, r'token_merger\.feedforward_channels'),
        (dict(stride=32), {}, r'token_merger=.*argument .stride'),
        (dict(type='LocalPositionEmbedding'), {}, r'not a token merger'),
        (dict(type='StridedTokenMerger', factor=3), {}, r'token_merger\.factor'),
        (dict(type='StridedTokenMerger', factor=1), {}, r'token_merger\.factor'),
        ({}, dict(out_type='featmap'), 'StridedTokenMerger'),
    ],
)
def test_bad_arguments(config: dict, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResFormer(ARCH, patch_size=PATCH, token_merger={**dict(type='TokenMerger'), **config}, **options)


# Compiled and exported -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < '2.5', reason='earlier versions cannot trace this')
@pytest.mark.parametrize('config', [TO_GRID, BY_FACTOR])
@pytest.mark.parametrize('training', [False, True])
def test_compiles_without_graph_breaks(config: dict, training: bool) -> None:
    model = build({**config, 'index': 1}, out_type='raw').train(training)
    graphs = []

    def run_as_it_is(graph: torch.fx.GraphModule, inputs: list) -> object:
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=run_as_it_is)
    with torch.set_grad_enabled(training):
        for index, grid in enumerate([(10, 12), (12, 16), (9, 13), (11, 15)]):  # two steps each
            image = draw(2, 3, PATCH * grid[0], PATCH * grid[1])
            torch.testing.assert_close(compiled(image), model(image), rtol=1e-4, atol=1e-5)
            if index == 0:
                number = len(graphs)
        assert len(graphs) == number  # whatever is odd


# Checkpoints, analysis -------------------------------------------------------------------------------------


@EACH
def test_a_saved_model_has_its_merger(config: dict, tmp_path: Path) -> None:
    model = build({**config, 'index': 1}, out_type='raw')
    model.save_pretrained(tmp_path)
    again = ResFormer.from_pretrained(tmp_path)
    assert type(again.token_merger) is type(model.token_merger) and again.token_merger.index == 1
    assert torch.equal(again(pixels((9, 7)))[0], model(pixels((9, 7)))[0])


def test_weights_without_settings_do_not_tell_the_grid(tmp_path: Path) -> None:
    from resformer_mm.checkpoints import CheckpointError

    model = build(TO_GRID, out_type='raw')
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match='token_merger=dict'):
        ResFormer.from_pretrained(tmp_path / 'weights.pth', arch=ARCH)
    again = ResFormer.from_pretrained(
        tmp_path / 'weights.pth', arch=ARCH, token_merger=TO_GRID, out_type='raw'
    )
    assert torch.equal(again(pixels((9, 7)))[0], model(pixels((9, 7)))[0])


def test_a_checkpoint_without_a_merger_is_reported(tmp_path: Path) -> None:
    from resformer_mm.checkpoints import CheckpointError, load_pretrained

    plain, merging = build(None), build(TO_GRID)
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'plain.pth')
    before = merging.token_merger.proj.weight.clone()
    report = load_pretrained(merging, tmp_path / 'plain.pth')
    assert any('token_merger' in name for name in report.missing)
    assert 'no token merger' in report.summary()
    assert torch.equal(merging.token_merger.proj.weight, before)
    torch.save(dict(state_dict=merging.state_dict()), tmp_path / 'merging.pth')
    with pytest.raises(CheckpointError, match='token_merger'):
        load_pretrained(plain, tmp_path / 'merging.pth')


def test_analysis_knows_the_merged_grid() -> None:
    from resformer_mm.analysis.attention_maps import attention_weights, run_to_block

    image = draw(1, 3, 5 * PATCH, 7 * PATCH)
    for index in (0, 1):
        model = build({**TO_GRID, 'index': index}, out_type='raw')
        passed = run_to_block(model, image)
        assert passed.grid == TARGET
        weights = attention_weights(passed.attn, passed.attn_input, passed.grid)
        torch.testing.assert_close(weights.sum(dim=3), torch.ones(1, HEADS, 13))
        torch.testing.assert_close(passed.features, model(image)[0])
        by_patch = passed.by_patch(passed.features[0, 1:])
        assert by_patch.shape == (5, 7, WIDTH)
        rows, columns = model.token_merger.owners((5, 7))
        assert torch.equal(by_patch[4, 2], passed.features[0, 1 + rows[4] * 4 + columns[2]])
        assert run_to_block(model, image, 0).grid == (TARGET if index == 0 else (5, 7))
        holder = nn.Module()
        holder.backbone = model
        size = (5 * PATCH, 7 * PATCH)
        assert position_embedding(holder, size).shape[:2] == (TARGET if index == 0 else (5, 7))


@exports
@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'options'),
    [
        ({**TO_GRID, 'index': 1}, dict(out_type='raw', out_indices=(0, 2))),
        (BY_FACTOR, dict(out_type='featmap', out_indices=(1, 2))),
    ],
)
def test_files_equal_pytorch_at_every_size(
    config: dict, options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the image needs fewer steps than the file has, or none; larger images are refused."""
    model = DeployableModel(build(config, **options))
    sizes = [(8, 8), (16, 16), (24, 32), (61, 47), (80, 96), (17, 95), (9, 25), (96, 96)]
    is_limited = config['type'] == 'TokenMerger'
    if is_limited:
        model.model.token_merger.exported_steps = 2
        assert 'from 8 to 96' in model.describe_input()
    program = formats.capture(model)  # takes longest
    monkeypatch.setattr(formats, 'capture', lambda _: program)
    for file_format in (OnnxFormat(), ProgramFormat()):
        path = tmp_path / f'model{file_format.suffix}'
        assert len(export(model, path, file_format, sizes)) == len(sizes)
        if is_limited:
            with pytest.raises(Exception, match='(?i)out of|bound|<= ?96'):
                file_format.load(path)(draw(1, 3, 16, 200))
