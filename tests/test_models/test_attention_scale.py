"""Factors of the attention scores by the number of tokens, against explicit softmaxes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from resformer_mm.deployment import DeployableModel, formats
from resformer_mm.models import ResFormer, VideoResFormer
from resformer_mm.models.layers import (
    Attention,
    AttentionScale,
    JointAttention,
    LearnedLogTokensScale,
    LearnedPerGridScale,
    LogTokensScale,
    PerGridScale,
    WindowAttention,
    YarnScale,
    token_grids,
)

DIM, HEADS = 16, 2
TOKENS = (5, 10)
LOG = dict(type='LogTokensScale', tokens=TOKENS)
CONFIGS = {
    'log': LOG,
    'root': dict(LOG, exponent=0.5),
    'log, below': dict(LOG, below=True),
    'learned': dict(type='LearnedLogTokensScale', tokens=10, exponent=0.5),
    'yarn': dict(type='YarnScale', tokens=10),
    'grids': dict(type='PerGridScale', tokens=TOKENS, factors=[0.7, 1.3]),
    'grids, learned': dict(type='LearnedPerGridScale', tokens=(4, 10, 30)),
}
EACH = pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
LEARNED = [config for config in CONFIGS.values() if 'Learned' in config['type']]


def expected_factor(scale: AttentionScale, n: int, head: int) -> float:
    """The formulas, one number after the other."""
    if isinstance(scale, LogTokensScale):
        start = 10 if n > 10 else scale.least if scale.below and n < scale.least else n
        factor = (math.log(n) / math.log(start)) ** scale.exponent
        if isinstance(scale, LearnedLogTokensScale):
            factor = 1 + scale.strength[head].item() * (factor - 1)
        return factor
    if isinstance(scale, YarnScale):
        return (0.1 * math.log(max(n, 10) / 10) + 1) ** 2
    factors = [one[head].item() if isinstance(one, Tensor) else one for one in scale.log_factors]
    if n <= scale.tokens[0] or n >= scale.tokens[-1]:
        return math.exp(factors[0] if n <= scale.tokens[0] else factors[-1])
    right = next(index for index, tokens in enumerate(scale.tokens) if n <= tokens)
    low, high = scale.tokens[right - 1 : right + 1]
    way = (math.log(n) - math.log(low)) / (math.log(high) - math.log(low))
    return math.exp(factors[right - 1] + way * (factors[right] - factors[right - 1]))


def make(config: dict | None, kind: type[Attention] = Attention, **kwargs) -> Attention:
    torch.manual_seed(0)
    attn = kind(DIM, HEADS, attention_scale=config, **kwargs)
    for name, parameter in attn.named_parameters():
        torch.nn.init.normal_(parameter, 0.7 if 'attention_scale' in name else 0, 0.4)
    return attn.double()


def literal(attn: Attention, tokens: Tensor, seen: Tensor) -> Tensor:
    """Attention of one image ``(N, C)``, query by query, with the keys of a mask ``(N, N)``."""
    query, key, value = (
        x.view(len(tokens), HEADS, -1) for x in (tokens @ attn.qkv.weight.T + attn.qkv.bias).chunk(3, dim=1)
    )
    out = torch.zeros_like(query)
    for head in range(HEADS):
        for i in range(len(tokens)):
            keys = seen[i].nonzero().flatten()
            factor = 1.0
            if attn.attention_scale is not None:
                factor = expected_factor(attn.attention_scale, len(keys), head)
            scores = factor * (key[keys, head] @ query[i, head]) / math.sqrt(DIM // HEADS)
            out[i, head] = scores.softmax(0) @ value[keys, head]
    return out.flatten(1) @ attn.proj.weight.T + attn.proj.bias


@EACH
@pytest.mark.parametrize('grid', [(1, 1), (1, 3), (2, 2), (3, 3), (2, 5), (7, 4)], ids=str)
def test_scores_and_gradients_of_an_image(config: dict, grid: tuple[int, int]) -> None:
    attn = make(config)
    number = 1 + grid[0] * grid[1]
    tokens = torch.randn(2, number, DIM, dtype=torch.float64)
    everything = torch.ones(number, number, dtype=torch.bool)
    expected = torch.stack([literal(attn, one, everything) for one in tokens])
    out = attn(tokens, grid)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(attn.forward_cls(tokens, grid), out[:, :1])
    with torch.no_grad():
        torch.testing.assert_close(attn(tokens, grid), expected)
    out.sin().sum().backward()
    assert all(parameter.grad is not None for parameter in attn.parameters())
    for parameter in attn.attention_scale.parameters():
        copy = parameter.detach().clone()
        index = (0,) * parameter.ndim
        changes = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter[index] = copy[index] + step
                changes.append(attn(tokens, grid).sin().sum())
        torch.testing.assert_close(
            parameter.grad[index], (changes[0] - changes[1]) / 2e-5, rtol=1e-5, atol=1e-7
        )
        with torch.no_grad():
            parameter.copy_(copy)


@pytest.mark.parametrize('n', [2, 4, 5, 7, 10, 11, 65, 4097])
@EACH
def test_numbers_and_tensors_give_one_factor(config: dict, n: int) -> None:
    scale = make(config).attention_scale
    tensor = scale.factor(torch.full((3, 1, 1, 1), float(n), dtype=torch.float64))
    for head in range(HEADS):
        expected = expected_factor(scale, n, head)
        of_number = scale.factor(n)
        if isinstance(of_number, Tensor):
            of_number = float(of_number[head])
        assert of_number == pytest.approx(expected, rel=1e-12)
        assert tensor.expand(3, HEADS, 1, 1)[:, head].flatten().tolist() == pytest.approx([expected] * 3)


def test_published_cases() -> None:
    assert LogTokensScale(1, 64).factor(4096) == pytest.approx(2)
    assert LogTokensScale(1, 64, exponent=0.5).factor(4096) == pytest.approx(math.sqrt(2))
    assert LogTokensScale(1, 64, below=True).factor(8) == pytest.approx(0.5)
    assert YarnScale(1, 100).factor(800) == pytest.approx((0.1 * math.log(8) + 1) ** 2)
    assert PerGridScale(1, [10, 1000], [1, 4]).factor(100) == pytest.approx(2)


class Operations(TorchDispatchMode):
    """Counts what is computed, and how often each."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    'config',
    [
        LOG,
        dict(LOG, below=True),
        dict(type='LearnedLogTokensScale', tokens=TOKENS),
        dict(type='YarnScale', tokens=TOKENS),
        dict(type='PerGridScale', tokens=[5, 10, 20], factors=[1, 1, 2]),
    ],
    ids=str,
)
def test_nothing_is_computed_on_the_trained_grids(config: dict) -> None:
    plain, scaled = make(None), make(config)
    for grid in ((2, 2), (2, 3), (3, 3)):
        tokens = torch.randn(2, 1 + grid[0] * grid[1], DIM, dtype=torch.float64)
        outs, names = [], []
        for attn in (plain, scaled):
            attn.load_state_dict(plain.state_dict(), strict=False)
            with torch.no_grad(), Operations() as operations:
                outs.append(attn(tokens, grid))
            names.append(operations.names)
        assert names[0] == names[1]
        assert torch.equal(*outs)
    assert not torch.equal(
        *(attn(torch.ones(1, 29, DIM).double().cumsum(1), (4, 7)) for attn in (plain, scaled))
    )


def test_above_a_fixed_scale_costs_no_operation_and_stays_fused() -> None:
    counts = []
    for config in (None, LOG):
        with torch.no_grad(), Operations() as operations:
            make(config)(torch.randn(1, 29, DIM, dtype=torch.float64), (4, 7))
        counts.append(operations.names)
    assert counts[0] == counts[1]


@pytest.mark.parametrize('config', LEARNED, ids=lambda config: config['type'])
def test_gradients_are_zero_where_the_factor_is_fixed(config: dict) -> None:
    """Not missing: distributed training waits for them."""
    attn = make(config)
    attn(torch.randn(2, 10, DIM, dtype=torch.float64), (3, 3)).sin().sum().backward()  # 10 tokens
    scale = attn.attention_scale
    (gradient,) = (parameter.grad for parameter in scale.parameters())
    if isinstance(scale, LearnedLogTokensScale):
        assert not gradient.any()
    else:
        assert gradient[1].all() and not gradient[[0, 2]].any()
    attn.zero_grad()
    attn(torch.randn(2, 29, DIM, dtype=torch.float64), (4, 7)).sin().sum().backward()
    (gradient,) = (parameter.grad for parameter in scale.parameters())
    assert gradient.any()


def test_a_strength_of_zero_is_no_scale_and_one_is_the_fixed_one() -> None:
    tokens = torch.randn(2, 29, DIM, dtype=torch.float64)
    for strength, config in ((0, None), (1, LOG)):
        learned = make(dict(type='LearnedLogTokensScale', tokens=TOKENS))
        torch.nn.init.constant_(learned.attention_scale.strength, strength)
        other = make(config)
        other.load_state_dict(learned.state_dict(), strict=False)
        torch.testing.assert_close(learned(tokens, (4, 7)), other(tokens, (4, 7)))
    start = LearnedLogTokensScale(3, 10, strength=0.5).strength
    assert start.flatten().tolist() == [0.5] * 3
    assert not LearnedPerGridScale(3, [10, 20]).log_factors.any()


# Windows and clips


@EACH
@pytest.mark.parametrize('with_cls_token', [True, False])
@pytest.mark.parametrize('grid', [(6, 8), (7, 5), (3, 2)], ids=str)
def test_windows_count_their_own_tokens(config: dict, with_cls_token: bool, grid: tuple[int, int]) -> None:
    attn = make(config, WindowAttention, window_size=4, with_cls_token=with_cls_token)
    number, first = grid[0] * grid[1], int(with_cls_token)
    tokens = torch.randn(2, number + first, DIM, dtype=torch.float64)
    seen = torch.ones(number + first, number + first, dtype=torch.bool)
    for i in range(number):
        for j in range(number):
            cells = [(n // grid[1] // 4, n % grid[1] // 4) for n in (i, j)]
            seen[first + i, first + j] = cells[0] == cells[1]
    expected = torch.stack([literal(attn, one, seen) for one in tokens])
    torch.testing.assert_close(attn(tokens, grid), expected)
    whole = torch.ones(2, number, dtype=torch.bool)  # in one computation for all windows, with a mask
    shared = None
    maps = [attn.split_heads(x) for x in attn.qkv(tokens).chunk(3, dim=2)]
    if first:
        shared = tuple(x[:, :, :first] for x in maps[1:])
    padded = attn._attend_padded([x[:, :, first:].unflatten(2, grid) for x in maps], shared, whole)
    patches = attn.proj(padded.flatten(1, 2).flatten(2))
    torch.testing.assert_close(patches, expected[:, first:])


@EACH
def test_joint_attention_counts_all_frames(config: dict) -> None:
    attn = make(config, JointAttention)
    tokens = torch.randn(2, 1 + 3 * 6, DIM, dtype=torch.float64)
    seen = torch.ones(19, 19, dtype=torch.bool)
    expected = torch.stack([literal(attn, one, seen) for one in tokens])
    torch.testing.assert_close(attn(tokens, (3, 2, 3)), expected)


@pytest.mark.parametrize('attention_type', ['divided_space_time', 'joint_space_time', 'space_only'])
def test_clips(attention_type: str) -> None:
    """Divided attention counts the tokens of a frame, and a repeated frame stays the image."""
    arch = dict(embed_dims=DIM, num_layers=2, num_heads=HEADS, feedforward_channels=24)
    outs = []
    for config in (None, dict(LOG, tokens=7), dict(LOG, tokens=40)):
        torch.manual_seed(0)
        clips = VideoResFormer(
            arch, 2, attention_type, patch_size=8, attention_scale=config, out_type='featmap'
        )
        image = ResFormer(arch, patch_size=8, attention_scale=config, out_type='featmap')
        generator = torch.Generator().manual_seed(1)
        for name, parameter in clips.named_parameters():
            if not name.startswith('temporal') and '.temporal' not in name:
                parameter.data.normal_(std=0.3, generator=generator)
        image.load_state_dict(clips.state_dict(), strict=False)
        frame = torch.randn(1, 3, 24, 32, generator=generator)
        out = clips(frame[:, :, None].repeat(1, 1, 2, 1, 1))
        if attention_type != 'joint_space_time':
            torch.testing.assert_close(out[:, :, 1], image(frame)[0], rtol=1e-4, atol=1e-4)
        outs.append(out)
    none, scaled, free = outs
    assert (none - scaled).abs().max() > 1e-3
    assert torch.equal(none, free)


# In the backbone

SIZES = [(21, 40), (32, 33), (8, 8), (32, 40)]
SETTINGS = {
    'class token': dict(out_type='cls_token'),
    'tokens': dict(out_type='raw', local_position=dict(type='ContinuousPositionBias')),
    'windows': dict(out_type='raw', window_size=3, window_block_indices=(0,)),
    'windows, no class token': dict(
        out_type='featmap', window_size=3, window_block_indices=(0,), with_cls_token=False
    ),
}
EACH_SETTING = pytest.mark.parametrize('settings', SETTINGS.values(), ids=SETTINGS)


def build(config: dict | None, **settings) -> ResFormer:
    torch.manual_seed(0)
    arch = dict(embed_dims=DIM, num_layers=2, num_heads=HEADS, feedforward_channels=24)
    model = ResFormer(arch, patch_size=8, attention_scale=config, **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def draw() -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(1, 3, *size, generator=generator) for size in SIZES]
    batch = torch.full((len(SIZES), 3, 32, 40), torch.nan)
    for place, image in zip(batch, images):
        place[:, : image.shape[2], : image.shape[3]] = image[0]
    return images, batch


def part_of(out: Tensor, grid: tuple[int, int]) -> Tensor:
    """What of a batch's output belongs to an image of a grid."""
    if out.ndim == 2:
        return out
    if out.ndim == 4:
        return out[:, :, : grid[0], : grid[1]]
    patches = out[:, 1:].unflatten(1, (4, 5))[:, : grid[0], : grid[1]].flatten(1, 2)
    return torch.cat((out[:, :1], patches), dim=1)


@EACH
@EACH_SETTING
@pytest.mark.parametrize('masked', [False, True])
def test_an_image_of_a_padded_batch_counts_its_own_tokens(config: dict, settings: dict, masked: bool) -> None:
    model = build(config, **settings)
    images, batch = draw()
    if masked:
        model.blocks[0].register_forward_hook(lambda *_: None)
    assert model.packs_copies is not masked
    (together,) = model(batch, sizes=SIZES)
    for index, (image, grid) in enumerate(zip(images, token_grids(SIZES, 8))):
        torch.testing.assert_close(
            part_of(together[index : index + 1], grid), model(image)[0], rtol=1e-4, atol=1e-4
        )
    together.sin().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@EACH
@EACH_SETTING
def test_copies_count_their_own_tokens(config: dict, settings: dict) -> None:
    model, (images, _) = build(config, **settings), draw()
    for one, image in zip(model.forward_copies(images), images):
        torch.testing.assert_close(one[0], model(image)[0], rtol=1e-4, atol=1e-5)


@EACH
@EACH_SETTING
def test_bfloat16(config: dict, settings: dict) -> None:
    model, image = build(config, **settings), torch.randn(2, 3, 29, 40)
    (exact,) = model(image)
    with torch.autocast('cpu', torch.bfloat16):
        (mixed,) = model(image)
    mixed.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    with torch.no_grad():
        (rounded,) = model.bfloat16()(image.bfloat16())
    for other in (mixed, rounded):
        assert F.cosine_similarity(other.float().flatten(1), exact.flatten(1)).min() > 0.98


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < '2.5', reason='torch.compile of earlier versions cannot trace this')
@pytest.mark.parametrize(
    ('name', 'kind', 'training', 'number'),
    [
        ('log', 'class token', False, 2),
        ('learned', 'class token', True, 1),
        ('grids', 'tokens', True, 2),
        # Windows fit the map, or are padded below, or only at the right.
        ('log', 'windows', True, 6),
    ],
)
def test_compiles_without_graph_breaks(name: str, kind: str, training: bool, number: int) -> None:
    """A graph for the trained numbers of tokens, where a fixed scale does nothing, and one for all others."""
    model = build(CONFIGS[name], **SETTINGS[kind])
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs: list) -> object:
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    with torch.set_grad_enabled(training):
        compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=count)
        for size in ((32, 40), (48, 56), (24, 24), (16, 24), (72, 48)):
            image = torch.randn(2, 3, *size)
            torch.testing.assert_close(compiled(image)[0], model(image)[0], rtol=1e-4, atol=1e-4)
    assert len(graphs) <= number


@pytest.mark.slow
@pytest.mark.skipif(
    torch.__version__ < formats.PROGRAM_VERSION, reason='programs are exported by PyTorch 2.13'
)
@pytest.mark.parametrize(
    ('name', 'kind'), [('log, below', 'windows'), ('root', 'class token'), ('grids, learned', 'tokens')]
)
def test_one_program_serves_all_sizes(name: str, kind: str) -> None:
    model = build(CONFIGS[name], **SETTINGS[kind]).eval()
    program = formats.capture(DeployableModel(model)).module()
    for size in ((24, 32), (40, 16), (33, 21), (8, 30), (8, 8), (64, 64)):
        image = torch.randn(2, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(program(image)[0], model(image)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(LOG, tokens=1), r'attention_scale\.tokens must be the number of tokens.*got 1'),
        (dict(LOG, tokens=[]), r'attention_scale\.tokens must be'),
        (dict(LOG, tokens=[5.0]), r'attention_scale\.tokens must be'),
        (dict(LOG, exponent=0), r'attention_scale\.exponent must be positive'),
        (dict(LOG, size=3), r'backbone\.attention_scale=.*size'),
        (dict(type='LogTokensScale'), r'backbone\.attention_scale=.*tokens'),
        (dict(type='PerGridScale', tokens=[10, 5], factors=[1, 2]), 'tokens must increase'),
        (dict(type='PerGridScale', tokens=[5, 10], factors=[1]), r'factors must be positive.*each of the 2'),
        (dict(type='PerGridScale', tokens=[5, 10], factors=[1, 0]), 'factors must be positive'),
        (dict(type='PerGridScale', tokens=[5, 10], factors=[1, 1]), 'factors are all 1'),
        (dict(type='LocalPositionEmbedding', embed_dims=16), 'not a scale of the attention'),
    ],
    ids=str,
)
def test_bad_arguments(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(config)
