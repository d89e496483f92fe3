"""Windows with a class token against full attention with a mask, and with position modules pair by pair."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.analysis.attention_maps import attention_weights
from resformer_mm.analysis.complexity import count_complexity
from resformer_mm.apis import make_test_config
from resformer_mm.deployment import DeployableModel, OnnxFormat, formats
from resformer_mm.models import LocalPosition, ResFormer
from resformer_mm.models.layers import Attention, WindowAttention, token_grids
from resformer_mm.registry import MODELS

DIM, HEADS, SIZE = 16, 2, 4
# Divided, cut off below, at the right, on both sides, by one token, smaller than a window, a row, one token.
GRIDS = [(8, 4), (10, 8), (4, 7), (7, 10), (5, 9), (3, 2), (1, 6), (4, 4), (1, 1)]
Grid = tuple[int, int]


@pytest.fixture(scope='module', autouse=True)
def cls_bias() -> Iterator[None]:
    """A bias that pairs with the class token have, too."""

    class ClassTokenBiasForTest(LocalPosition):
        def __init__(self, embed_dims: int, num_heads: int) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.randn(num_heads, 1, 1))

        def attention_bias(self, grid: Grid, with_cls_token: bool) -> Tensor:
            number = grid[0] * grid[1] + with_cls_token
            places = torch.arange(number, device=self.factor.device) / number
            return self.factor * (places[:, None] - 2 * places)

    MODELS.register_module(name='ClassTokenBiasForTest', module=ClassTokenBiasForTest)
    yield
    MODELS.module_dict.pop('ClassTokenBiasForTest')


POSITIONS = {
    'none': None,
    'LPE': dict(type='LocalPositionEmbedding'),
    'bias': dict(type='ContinuousPositionBias', grid_size=3, hidden_dims=8),
    'table': dict(type='RelativePositionBias', grid_size=3),
    'directions': dict(type='DirectionalBias'),
    'bias of the class token': dict(type='ClassTokenBiasForTest'),
    'rotation': dict(type='AxialRotaryPosition'),
    'all': dict(
        type='CombinedPosition',
        parts=[
            dict(type='LocalPositionEmbedding'),
            dict(type='ClassTokenBiasForTest'),
            dict(type='MixedRotaryPosition'),
        ],
    ),
}
EACH_POSITION = pytest.mark.parametrize('name', POSITIONS)
PREFIXES = [(True, 0), (True, 3), (False, 2)]
EACH_PREFIX = pytest.mark.parametrize(('with_cls_token', 'num_registers'), PREFIXES)


def make(name: str, kind: type[Attention] = WindowAttention, **kwargs) -> Attention:
    torch.manual_seed(0)
    if kind is WindowAttention:
        kwargs.setdefault('window_size', SIZE)
    heads = 4 if name == 'directions' else HEADS
    attn = kind(DIM, heads, local_position=POSITIONS[name], **kwargs)
    for parameter in attn.parameters():
        nn.init.normal_(parameter, std=0.4)
    return attn.double()


def window_mask(grid: Grid, first: int, size: int = SIZE) -> Tensor:
    """Which keys a query sees, ``(N, N)``: its window and prefix tokens; those see everything."""
    number = first + grid[0] * grid[1]
    seen = torch.zeros(number, number, dtype=torch.bool)
    for i in range(number):
        for j in range(number):
            if min(i, j) < first:
                seen[i, j] = True
            else:
                rows, columns = zip(*(divmod(n - first, grid[1]) for n in (i, j)))
                seen[i, j] = rows[0] // size == rows[1] // size and columns[0] // size == columns[1] // size
    return seen


def literal(attn: Attention, tokens: Tensor, grid: Grid, size: int = SIZE) -> Tensor:
    """Attention of images ``(B, N, C)``, one pair of tokens after the other.

    A patch token treats its window as an image, with its place in it; a prefix token the whole map.
    """
    position, heads, first = attn.local_position, attn.num_heads, attn.num_prefix_tokens
    batch, number, _ = tokens.shape
    seen = window_mask(grid, first, size)
    query, key, value = (attn.split_heads(x) for x in attn.qkv(tokens).chunk(3, dim=2))

    def rotated(x: Tensor, place: Grid | None, of: Grid) -> Tensor:  # (B, heads, d)
        if position is None or not position.rotates or place is None:
            return x
        everywhere = x[:, :, None].expand(-1, -1, of[0] * of[1], -1)
        return position.rotate(everywhere, everywhere, of)[0][:, :, place[0] * of[1] + place[1]]

    def bias(i: Grid | int, j: Grid | int, of: Grid) -> Tensor | float:  # (heads,)
        if position is None or (not attn.with_cls_token and not isinstance(j, tuple)):
            return 0.0
        # A class token is 0, registers are 1 and more, patches are places.
        if any(isinstance(n, int) and n > 0 for n in (i, j)):
            return 0.0
        found = position.attention_bias(of, attn.with_cls_token)
        if found is None:
            return 0.0
        found = found.expand(*found.shape[:-3], heads, *found.shape[-2:]).reshape(heads, *found.shape[-2:])
        places = [n[0] * of[1] + n[1] + attn.with_cls_token if isinstance(n, tuple) else 0 for n in (i, j)]
        return found[:, places[0], places[1]]

    def place(n: int) -> Grid | int:
        if n >= first:
            return divmod(n - first, grid[1])
        return n if attn.with_cls_token else n + 1

    out = torch.zeros_like(value)
    for i in range(number):
        of, scores = (grid if i < first else (size, size)), []
        keys = seen[i].nonzero().flatten().tolist()
        for j in keys:
            places = [place(n) for n in (i, j)]
            if i >= first:
                places = [(p[0] % size, p[1] % size) if isinstance(p, tuple) else p for p in places]
            turned = [
                rotated(x[:, :, n], p if isinstance(p, tuple) else None, of)
                for x, n, p in zip((query, key), (i, j), places)
            ]
            scores.append((turned[0] * turned[1]).sum(-1) / math.sqrt(query.shape[3]) + bias(*places, of))
        weights = torch.stack(scores, dim=2).softmax(2)
        out[:, :, i] = (weights[..., None] * value[:, :, keys]).sum(2)
    out = out.transpose(1, 2).flatten(2)
    term = None if position is None else position(value.transpose(1, 2).flatten(2)[:, first:], grid)
    if term is not None:
        out = torch.cat((out[:, :first], out[:, first:] + term), dim=1)
    return attn.proj(out)


@pytest.mark.parametrize('grid', GRIDS, ids=str)
@EACH_PREFIX
def test_full_attention_with_a_mask(grid: Grid, with_cls_token: bool, num_registers: int) -> None:
    """Outputs and gradients, with the convolution of LPE over the whole map."""
    kwargs = dict(with_cls_token=with_cls_token, num_registers=num_registers)
    windows, whole = make('LPE', **kwargs), make('LPE', Attention, **kwargs)
    first = windows.num_prefix_tokens
    mask = window_mask(grid, first)
    whole._scores_bias = lambda *_: torch.zeros(mask.shape).double().masked_fill(~mask, -math.inf)
    tokens = torch.randn(2, len(mask), DIM, dtype=torch.float64)
    results = []
    for attn in (windows, whole):
        own = tokens.clone().requires_grad_()
        out = attn(own, grid)
        out.sin().sum().backward()
        results.append((out, own.grad, *(parameter.grad for parameter in attn.parameters())))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)
    with torch.no_grad():
        torch.testing.assert_close(windows(tokens, grid), results[0][0])


@EACH_POSITION
@pytest.mark.parametrize('grid', [(8, 4), (6, 5), (3, 2)], ids=str)
@EACH_PREFIX
def test_position_modules(name: str, grid: Grid, with_cls_token: bool, num_registers: int) -> None:
    attn = make(name, with_cls_token=with_cls_token, num_registers=num_registers)
    tokens = torch.randn(2, attn.num_prefix_tokens + grid[0] * grid[1], DIM, dtype=torch.float64)
    with torch.no_grad():
        out, expected = attn(tokens, grid), literal(attn, tokens, grid)
        torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
        if with_cls_token:
            torch.testing.assert_close(attn.forward_cls(tokens, grid), out[:, :1])


@EACH_POSITION
def test_a_window_of_the_whole_map_is_full_attention(name: str) -> None:
    windows, whole = make(name, num_registers=1), make(name, Attention, num_registers=1)
    tokens = torch.randn(2, 2 + SIZE * SIZE, DIM, dtype=torch.float64)
    torch.testing.assert_close(windows(tokens, (SIZE, SIZE)), whole(tokens, (SIZE, SIZE)))


@EACH_POSITION
def test_the_bias_of_all_pairs_is_computed_for_windows_only(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the class token has one; else the cost would grow with the square of the map."""
    attn = make(name)
    if name in ('bias of the class token', 'all'):
        assert attn.local_position.biases_cls_token
        return
    grids, position = [], attn.local_position
    if position is not None:
        bias = position.attention_bias
        monkeypatch.setattr(
            position, 'attention_bias', lambda *args, **kw: [grids.append((args, kw)), bias(*args, **kw)][1]
        )
    tokens = torch.randn(1, 1 + 8 * 12, DIM, dtype=torch.float64)
    attn(tokens, (8, 12))
    attn.forward_cls(tokens, (8, 12))
    assert all((args or (kw['grid'],))[0] == (SIZE, SIZE) for args, kw in grids)


@pytest.mark.parametrize('name', ['none', 'table', 'rotation'])
def test_the_window_size_changes_at_run_time(name: str) -> None:
    """No weight depends on it; a table of offsets is stretched to the new window."""
    attn, grid = make(name), (7, 10)
    tokens = torch.randn(1, 71, DIM, dtype=torch.float64)
    outs = []
    with torch.no_grad():
        for size in (4, 3, 5, 16):
            attn.window_size = size
            outs.append(attn(tokens, grid))
            torch.testing.assert_close(outs[-1], literal(attn, tokens, grid, size), rtol=1e-6, atol=1e-6)
    assert (outs[0] - outs[1]).abs().max() > 1e-3
    for wrong in (0, -1, 2.0, True, None):
        with pytest.raises(ValueError, match='window_size must be a positive number of tokens'):
            attn.window_size = wrong
    assert attn.window_size == 16


def test_attention_weights() -> None:
    attn, grid = make('none'), (5, 7)
    tokens = torch.randn(1, 36, DIM, dtype=torch.float64)
    with torch.no_grad():
        weights = attention_weights(attn, tokens, grid)
    assert torch.equal(weights[0, 0] > 0, window_mask(grid, 1))
    torch.testing.assert_close(weights.sum(3), torch.ones(1, HEADS, 36).double())


# In the backbone

ARCH = dict(embed_dims=DIM, num_layers=3, num_heads=HEADS, feedforward_channels=24)
WINDOWS = dict(window_size=3, window_block_indices=(0, 2))
SETTINGS = {
    'class token': dict(out_type='cls_token', **WINDOWS),
    'raw': dict(out_type='raw', out_indices=(0, 2), **WINDOWS),
    'map and class token': dict(out_type='featmap', output_cls_token=True, **WINDOWS),
    'registers': dict(out_type='cls_token', num_registers=2, **WINDOWS),
    'registers alone': dict(out_type='featmap', with_cls_token=False, num_registers=2, **WINDOWS),
    'bias': dict(out_type='raw', local_position=POSITIONS['bias'], num_registers=2, **WINDOWS),
    'rotation': dict(out_type='raw', local_position=POSITIONS['all'], num_registers=1, **WINDOWS),
}
EACH_SETTING = pytest.mark.parametrize('settings', SETTINGS.values(), ids=SETTINGS)
SIZES = [(21, 72), (56, 33), (37, 50), (8, 8), (56, 72)]


def build(**settings) -> ResFormer:
    torch.manual_seed(0)
    model = ResFormer(ARCH, patch_size=8, **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def flatten(outputs: object) -> list[Tensor]:
    return torch.utils._pytree.tree_flatten(outputs)[0]


def draw(dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(1, 3, *size, generator=generator).to(dtype) for size in SIZES]
    batch = torch.full((len(SIZES), 3, 56, 72), torch.nan, dtype=dtype)
    for place, image in zip(batch, images):
        place[:, : image.shape[2], : image.shape[3]] = image[0]
    return images, batch


def part_of(out: Tensor, grid: Grid) -> Tensor:
    """What of a batch's output belongs to an image of a grid."""
    if out.ndim == 2:
        return out
    if out.ndim == 4:
        return out[:, :, : grid[0], : grid[1]]
    patches = out[:, 1:].unflatten(1, (7, 9))[:, : grid[0], : grid[1]].flatten(1, 2)
    return torch.cat((out[:, :1], patches), dim=1)


@EACH_SETTING
@pytest.mark.parametrize('masked', [False, True])
def test_padded_batches_and_gradients(settings: dict, masked: bool) -> None:
    """Every image gets what it gets alone, and every parameter the same gradient."""
    model = build(**settings).double()
    images, batch = draw(torch.float64)
    if masked:
        model.blocks[0].register_forward_hook(lambda *_: None)
    assert model.packs_copies is not masked
    together = flatten(model(batch, sizes=SIZES))
    total = 0
    for index, (image, grid) in enumerate(zip(images, token_grids(SIZES, 8))):
        for one, alone in zip(together, flatten(model(image)), strict=True):
            torch.testing.assert_close(part_of(one[index : index + 1], grid), alone)
            total = total + alone.sin().sum()
    names, parameters = zip(*model.named_parameters())
    expected = torch.autograd.grad(total, parameters)
    actual = torch.autograd.grad(sum(one.sin().sum() for one in together), parameters)
    for name, one, other in zip(names, actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8, msg=name)


@EACH_SETTING
@pytest.mark.parametrize('pool', ['gap', None])
def test_copies(settings: dict, pool: str | None) -> None:
    model, (images, _) = build(**settings), draw()
    for together, image in zip(model.forward_copies(images, pool), images):
        alone = model(image, pool=pool)
        for one, other in zip(flatten(together), flatten(alone), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@EACH_SETTING
def test_bfloat16(settings: dict) -> None:
    model, image = build(**settings), torch.randn(2, 3, 29, 40)
    exact = flatten(model(image))
    with torch.autocast('cpu', torch.bfloat16):
        mixed = flatten(model(image))
    sum(one.float().sum() for one in mixed).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    with torch.no_grad():
        rounded = flatten(model.bfloat16()(image.bfloat16()))
    for one, *others in zip(exact, mixed, rounded):
        for other in others:
            assert F.cosine_similarity(other.float().flatten(1), one.flatten(1)).min() > 0.98


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < '2.5', reason='torch.compile of earlier versions cannot trace this')
@pytest.mark.parametrize(('name', 'training'), [('registers', False), ('raw', True)])
def test_compiles_without_graph_breaks(name: str, training: bool) -> None:
    model = build(**SETTINGS[name]).train(training)
    torch.compiler.reset()
    with torch.set_grad_enabled(training):
        compiled = torch.compile(model, fullgraph=True, dynamic=True, backend='eager')
        for size in ((48, 72), (37, 50), (72, 96), (24, 40)):
            image = torch.randn(2, 3, *size)
            for one, other in zip(flatten(compiled(image)), flatten(model(image)), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(
    torch.__version__ < formats.PROGRAM_VERSION, reason='programs are exported by PyTorch 2.13'
)
@pytest.mark.parametrize('name', ['registers', 'raw', 'registers alone', 'bias', 'rotation'])
def test_one_program_serves_all_sizes(name: str) -> None:
    model = build(**SETTINGS[name]).eval()
    program = formats.capture(DeployableModel(model)).module()
    for size in ((24, 32), (40, 16), (33, 21), (8, 30), (8, 8), (64, 64)):
        image = torch.randn(2, 3, *size)
        with torch.no_grad():
            for one, other in zip(flatten(program(image)), flatten(model(image)), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(
    torch.__version__ < formats.PROGRAM_VERSION, reason='files for all sizes need this version'
)
def test_onnx_file(tmp_path: Path) -> None:
    """With registers and a scale of the scores."""
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    scale = dict(type='LogTokensScale', tokens=9, below=True)
    model = build(**SETTINGS['registers'], attention_scale=scale).eval()
    deployable = DeployableModel(model)
    item = OnnxFormat()
    item.write(deployable, tmp_path / 'model.onnx')
    run = item.load(tmp_path / 'model.onnx')
    for size in ((24, 32), (40, 16), (33, 21), (8, 8), (64, 64)):
        image = torch.rand(2, 3, *size) * 255
        with torch.no_grad():
            (expected,) = deployable(image)
        torch.testing.assert_close(run(image)[0], expected, rtol=1e-3, atol=1e-3)


def test_the_cost_of_windows_grows_with_the_number_of_tokens() -> None:
    windows = ResFormer(ARCH, patch_size=8, window_size=4, window_block_indices=(0, 1, 2))
    whole = ResFormer(ARCH, patch_size=8)
    costs = {}
    for side in (8, 16, 32):
        image = torch.zeros(1, 3, 8 * side, 8 * side)
        costs[side] = [count_complexity(model, image).by_part['attention'] for model in (windows, whole)]
        number = side * side
        # Patches see a window and the class token, which sees everything; in the last block it is alone.
        expected = 2 * (number * (16 + 1) + (number + 1)) + (number + 1)
        assert costs[side][0] == 2 * DIM * expected
        assert costs[side][1] == 2 * DIM * (2 * (number + 1) ** 2 + (number + 1))
    assert costs[32][0] / costs[16][0] < 4 < 15 < costs[32][1] / costs[16][1]


@pytest.mark.libraries
def test_the_window_size_of_a_test(tmp_path: Path) -> None:
    """Of tools/test.py: the config with windows, and the plain one with blocks that get some."""
    configs = Path(__file__).parents[2] / 'configs' / 'classification'
    plain = configs / 'resformer-mini_mr-64-48-32_1xb64-30e_mini.py'
    windows = configs / 'resformer-mini_windows_mr-64-48-32_1xb64-30e_mini.py'
    (tmp_path / 'weights.pth').touch()
    cfg = make_test_config(windows, tmp_path / 'weights.pth', window_size=5)
    assert cfg.model.backbone.window_size == 5 and cfg.model.backbone.window_block_indices == (0, 1, 3, 4)
    assert make_test_config(windows, tmp_path / 'weights.pth').model.backbone.window_size == 8
    with pytest.raises(ValueError, match=r'--window-size: the backbone of .* has no windows'):
        make_test_config(plain, tmp_path / 'weights.pth', window_size=5)
    options = {'model.backbone.window_block_indices': [0, 2]}
    cfg = make_test_config(plain, tmp_path / 'weights.pth', window_size=5, cfg_options=options)
    assert cfg.model.backbone.window_size == 5
    process = subprocess.run(
        [sys.executable, configs.parents[1] / 'tools' / 'test.py', plain, 'none.pth', '--window-size', '0'],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2 and '--window-size: 0 must be at least 1' in process.stderr


def test_the_window_size_of_a_backbone(tmp_path: Path) -> None:
    model, image = build(**SETTINGS['class token']), torch.randn(1, 3, 56, 72)
    before = model(image)[0]
    model.set_window_size(2)
    assert [getattr(block.attn, 'window_size', None) for block in model.blocks] == [2, None, 2]
    other = build(**{**SETTINGS['class token'], 'window_size': 2})
    assert torch.equal(model(image)[0], other(image)[0])
    assert not torch.equal(model(image)[0], before)
    model.save_pretrained(tmp_path)
    again = ResFormer.from_pretrained(tmp_path)
    assert again.settings['window_size'] == 2
    torch.testing.assert_close(again(image)[0], model.eval()(image)[0])
    with pytest.raises(ValueError, match='must be a positive number'):
        model.set_window_size(0)
    assert model.settings['window_size'] == 2
    with pytest.raises(ValueError, match='no block of the backbone has windows'):
        ResFormer(ARCH).set_window_size(4)
