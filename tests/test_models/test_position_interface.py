"""New position modules, one of each kind, used by config in every task and compared with literal formulas.

Each kind is one class below: a term of the attention output, a bias of the scores, a rotation of queries and
keys. All of them depend on the size of the grid and start away from zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import detection_models
import pytest
import small_models
import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor, nn

from resformer_mm.apis import enter_scope, load_model
from resformer_mm.models import LocalPosition, ResFormer
from resformer_mm.models.layers import (
    Attention,
    BatchPadding,
    JointAttention,
    WindowAttention,
    token_grids,
)
from resformer_mm.registry import MODELS

Grid = tuple[int, int]
DIM, HEADS = 16, 2


# The modules, as a user writes them


@MODELS.register_module()
class DirectionTermForTest(LocalPosition):
    """A term: each channel of the values times a linear function of the relative row and column."""

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.randn(2, embed_dims))

    def forward(self, value: Tensor, grid: Grid) -> Tensor:
        rows, columns = (torch.arange(side).to(self.slope) / side for side in grid)
        places = torch.cartesian_prod(rows, columns).view(-1, 2)  # (H * W, 2)
        return value * (places @ self.slope)


@MODELS.register_module()
class ContinuousBiasForTest(LocalPosition):
    """A bias: a small network of the relative distance of rows and columns; more for the class token."""

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, 6)
        self.out = nn.Linear(6, num_heads)
        nn.init.normal_(self.out.weight, std=2)

    def attention_bias(self, grid: Grid, with_cls_token: bool) -> Tensor:
        rows, columns = (torch.arange(side).to(self.out.weight) / side for side in grid)
        places = torch.cartesian_prod(rows, columns).view(-1, 2)
        bias = self.out(F.gelu(self.hidden(places[:, None] - places))).permute(2, 0, 1)
        if with_cls_token:  # it sees all tokens alike; patches see it more
            bias = F.pad(F.pad(bias, (1, 0), value=0.7), (0, 0, 1, 0))
        return bias


@MODELS.register_module()
class AxialRotationForTest(LocalPosition):
    """A rotation: one half of the pairs of channels by the row, the other by the column."""

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.randn(num_heads, embed_dims // num_heads // 4) * 3)

    def rotate(self, query: Tensor, key: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(query.dtype, torch.float32)  # complex numbers are not bfloat16
        frequency = self.frequency[:, None].to(dtype)
        rows, columns = (
            (torch.arange(side).to(frequency) + 0.5)[:, None] / side * frequency for side in grid
        )
        rows = rows[:, :, None].expand(-1, -1, grid[1], -1)
        columns = columns[:, None].expand(-1, grid[0], -1, -1)
        angle = torch.cat((rows, columns), dim=3).flatten(1, 2)  # (num_heads, H * W, d / 2)
        turn = torch.polar(torch.ones_like(angle), angle)

        def turned(x: Tensor) -> Tensor:
            pairs = torch.view_as_complex(x.to(dtype).unflatten(-1, (-1, 2)).contiguous())
            return torch.view_as_real(pairs * turn).flatten(-2)

        return turned(query), turned(key)


KINDS = {
    'term': 'DirectionTermForTest',
    'bias': 'ContinuousBiasForTest',
    'rotation': 'AxialRotationForTest',
}
EACH_KIND = pytest.mark.parametrize('kind', KINDS.values(), ids=KINDS)


# The formulas, one by one


def literal_term(position: LocalPosition, value: Tensor, place: Grid, grid: Grid) -> Tensor:
    if not isinstance(position, DirectionTermForTest):
        return torch.zeros_like(value)
    slope = position.slope.double()
    return value * (place[0] / grid[0] * slope[0] + place[1] / grid[1] * slope[1])


def literal_bias(
    position: LocalPosition, query: Grid | None, key: Grid | None, grid: Grid, head: int
) -> float:
    if not isinstance(position, ContinuousBiasForTest) or query is None:
        return 0.0
    if key is None:
        return 0.7
    offset = [(query[axis] - key[axis]) / grid[axis] for axis in (0, 1)]
    total = float(position.out.bias[head])
    for unit, (weight, bias) in enumerate(
        zip(position.hidden.weight.tolist(), position.hidden.bias.tolist())
    ):
        x = weight[0] * offset[0] + weight[1] * offset[1] + bias
        total += float(position.out.weight[head, unit]) * x * 0.5 * (1 + math.erf(x / math.sqrt(2)))
    return total


def literal_rotation(position: LocalPosition, x: Tensor, place: Grid | None, grid: Grid, head: int) -> Tensor:
    if not isinstance(position, AxialRotationForTest) or place is None:
        return x
    turned, quarter = x.clone(), len(x) // 4
    for pair in range(2 * quarter):
        axis = pair // quarter
        frequency = float(position.frequency[head, pair % quarter])
        angle = (place[axis] + 0.5) / grid[axis] * frequency
        first, second = float(x[2 * pair]), float(x[2 * pair + 1])
        turned[2 * pair] = first * math.cos(angle) - second * math.sin(angle)
        turned[2 * pair + 1] = first * math.sin(angle) + second * math.cos(angle)
    return turned


@torch.no_grad()
def literal_attention(attn: Attention, tokens: Tensor, grid: Grid, num_frames: int = 1) -> Tensor:
    """Attention of one image or clip ``(N, C)``, pair by pair of tokens, in float64."""
    position, tokens = attn.local_position, tokens.double()
    size = getattr(attn, 'window_size', None)
    places = [(y, x) for _ in range(num_frames) for y in range(grid[0]) for x in range(grid[1])]
    if attn.with_cls_token:
        places = [None, *places]
    # What bias and rotation see: the place in the window, whose size is the grid.
    local = places if size is None else [(y % size, x % size) for y, x in places]
    local_grid = grid if size is None else (size, size)
    qkv = tokens @ attn.qkv.weight.double().T + attn.qkv.bias.double()
    query, key, value = qkv.chunk(3, dim=1)
    heads, dim = [], query.shape[1] // attn.num_heads
    for head in range(attn.num_heads):
        part = slice(head * dim, (head + 1) * dim)
        queries, keys = (
            [literal_rotation(position, x[n, part], local[n], local_grid, head) for n in range(len(places))]
            for x in (query, key)
        )
        rows = []
        for i in range(len(places)):
            scores = {
                j: float(queries[i] @ keys[j]) / math.sqrt(dim)
                + literal_bias(position, local[i], local[j], local_grid, head)
                for j in range(len(places))
                if size is None or all(a // size == b // size for a, b in zip(places[i], places[j]))
            }
            total = sum(math.exp(score) for score in scores.values())
            rows.append(sum(math.exp(score) / total * value[j, part] for j, score in scores.items()))
        heads.append(torch.stack(rows))
    out = torch.cat(heads, dim=1)
    for n, place in enumerate(places):
        if place is not None:
            out[n] += literal_term(position, value[n], place, grid)
    return out @ attn.proj.weight.double().T + attn.proj.bias.double()


# Attention


def make(kind: str, cls: type[Attention] = Attention, with_cls_token: bool = True, **kwargs) -> Attention:
    torch.manual_seed(0)
    attn = cls(DIM, HEADS, with_cls_token=with_cls_token, local_position=dict(type=kind), **kwargs)
    nn.init.normal_(attn.qkv.weight, std=0.4)
    return attn


@EACH_KIND
@pytest.mark.parametrize('grid', [(3, 4), (5, 1), (1, 1)], ids=str)
@pytest.mark.parametrize('with_cls_token', [True, False])
def test_attention_to_a_whole_image(kind: str, grid: Grid, with_cls_token: bool) -> None:
    attn = make(kind, with_cls_token=with_cls_token)
    tokens = torch.randn(2, grid[0] * grid[1] + with_cls_token, DIM)
    out = attn(tokens, grid)
    expected = torch.stack([literal_attention(attn, image, grid) for image in tokens])
    torch.testing.assert_close(out, expected.float(), rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # where the term is added in place
        torch.testing.assert_close(attn(tokens, grid), out, rtol=1e-5, atol=1e-6)
        if with_cls_token:
            torch.testing.assert_close(attn.forward_cls(tokens, grid), out[:, :1], rtol=1e-4, atol=1e-5)
    if grid[0] != grid[1]:
        assert (attn(tokens, grid[::-1]) - out).abs().max() > 1e-3


@EACH_KIND
@pytest.mark.parametrize('grid', [(4, 6), (5, 3), (1, 2)], ids=str)
def test_attention_in_windows(kind: str, grid: Grid) -> None:
    attn = make(kind, WindowAttention, with_cls_token=False, window_size=2)
    tokens = torch.randn(2, grid[0] * grid[1], DIM)
    expected = torch.stack([literal_attention(attn, image, grid) for image in tokens])
    torch.testing.assert_close(attn(tokens, grid), expected.float(), rtol=1e-4, atol=1e-5)


@EACH_KIND
@pytest.mark.parametrize('with_cls_token', [True, False])
def test_joint_attention_in_clips(kind: str, with_cls_token: bool) -> None:
    attn, grid = make(kind, JointAttention, with_cls_token=with_cls_token), (3, 2, 3)
    tokens = torch.randn(2, 3 * 2 * 3 + with_cls_token, DIM)
    out = attn(tokens, grid)
    expected = torch.stack([literal_attention(attn, clip, grid[1:], num_frames=3) for clip in tokens])
    torch.testing.assert_close(out, expected.float(), rtol=1e-4, atol=1e-5)
    if with_cls_token:
        torch.testing.assert_close(attn.forward_cls(tokens, grid), out[:, :1], rtol=1e-4, atol=1e-5)


@EACH_KIND
def test_attention_stays_fused(kind: str) -> None:
    """PyTorch would fall back to a slow way silently, were it not forbidden here."""
    kernels = pytest.importorskip(
        'torch.nn.attention', reason='PyTorch 2.3 fuses attention with a mask on a CPU'
    )
    attn, windows = make(kind), make(kind, WindowAttention, with_cls_token=False, window_size=2)
    clips = make(kind, JointAttention)
    grids = ((2, 3), (1, 2))
    valid = torch.tensor([[True] * 6, [True, True, False, False, False, False]])
    with torch.no_grad(), kernels.sdpa_kernel(kernels.SDPBackend.FLASH_ATTENTION):
        for padding in (None, BatchPadding(grids, valid)):
            attn(torch.randn(2, 7, DIM), (2, 3), padding)
            attn.forward_cls(torch.randn(2, 7, DIM), (2, 3), padding)
            windows(torch.randn(2, 6, DIM), (2, 3), padding)
        clips(torch.randn(2, 13, DIM), (2, 2, 3))


# Padded batches in the backbone

SIZES = [(21, 72), (56, 33), (37, 50), (8, 8), (56, 72)]
BACKBONES = {
    'class token': dict(out_type='raw'),
    'class token alone': dict(out_type='cls_token'),
    'windows': dict(
        out_type='featmap', with_cls_token=False, window_size=3, window_block_indices=(0,), final_norm=False
    ),
}


def backbone(kind: str, **kwargs) -> ResFormer:
    torch.manual_seed(0)
    arch = dict(embed_dims=DIM, num_layers=2, num_heads=HEADS, feedforward_channels=24)
    model = ResFormer(arch, patch_size=8, local_position=dict(type=kind), **kwargs)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=1 if 'local_position' in name else 0.3)
    return model


def padded(dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor]:
    """Images of all sizes, and the batch of them; its padding holds what no model may read."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(1, 3, *size, generator=generator).to(dtype) for size in SIZES]
    batch = torch.full((len(SIZES), 3, 56, 72), torch.nan, dtype=dtype)
    for place, image in zip(batch, images):
        place[:, : image.shape[2], : image.shape[3]] = image[0]
    return images, batch


def real_part(out: Tensor, index: int, own: Grid, out_type: str) -> Tensor:
    one = out[index : index + 1]
    if out_type == 'cls_token':
        return one
    if out_type == 'featmap':
        return one[:, :, : own[0], : own[1]]
    patches = one[:, 1:].unflatten(1, (7, 9))[:, : own[0], : own[1]].flatten(1, 2)
    return torch.cat((one[:, :1], patches), dim=1)


@EACH_KIND
@pytest.mark.parametrize('settings', BACKBONES.values(), ids=BACKBONES)
def test_every_image_of_a_padded_batch_gets_what_it_gets_alone(kind: str, settings: dict) -> None:
    """In outputs and in the gradients of all parameters."""
    model = backbone(kind, **settings).double()
    images, batch = padded(torch.float64)
    (together,) = model(batch, sizes=SIZES)
    total = 0
    for index, (image, own) in enumerate(zip(images, token_grids(SIZES, 8), strict=True)):
        (alone,) = model(image)
        torch.testing.assert_close(real_part(together, index, own, settings['out_type']), alone)
        total = total + alone.sin().sum()
    names, parameters = zip(*model.named_parameters())
    expected = torch.autograd.grad(total, parameters, allow_unused=True)
    actual = torch.autograd.grad(together.sin().sum(), parameters, allow_unused=True)
    for name, one, other in zip(names, actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8, msg=name)


@EACH_KIND
def test_bfloat16_and_checkpointing(kind: str) -> None:
    model = backbone(kind, **BACKBONES['windows'])
    _, batch = padded()
    (exact,) = model(batch, sizes=SIZES)
    with torch.autocast('cpu', torch.bfloat16):
        (rounded,) = model(batch, sizes=SIZES)
    similarity = F.cosine_similarity(rounded.float().flatten(1), exact.flatten(1))
    assert similarity.min() > 0.98
    rounded.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    model.bfloat16()(batch.bfloat16().nan_to_num(0))  # without autocast: one type for the fused kernel

    gradients = []
    for with_cp in (False, True):
        again = backbone(kind, **BACKBONES['windows'], with_cp=with_cp).train()
        again(batch, sizes=SIZES)[0].sin().sum().backward()
        gradients.append([parameter.grad for parameter in again.parameters()])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@EACH_KIND
def test_position_modules_keep_the_weights_that_they_start_with(kind: str) -> None:
    """The backbone draws the weights of its own linear layers only."""
    torch.manual_seed(0)
    arch = dict(embed_dims=DIM, num_layers=1, num_heads=HEADS, feedforward_channels=24)
    model = ResFormer(arch, local_position=dict(type=kind))
    model.init_weights()
    weights = torch.cat([p.flatten() for p in model.blocks[0].attn.local_position.parameters()])
    assert weights.std() > 0.5
    assert 0.01 < model.blocks[0].attn.qkv.weight.std() < 0.03


@pytest.mark.slow
@EACH_KIND
@pytest.mark.parametrize('sizes', [None, SIZES], ids=['whole', 'padded'])
@pytest.mark.skipif(torch.__version__ < '2.5', reason='torch.compile of earlier versions cannot trace this')
def test_compiles_without_graph_breaks(kind: str, sizes: list | None) -> None:
    torch.compiler.reset()
    model, (_, batch) = backbone(kind, **BACKBONES['windows']), padded()
    batch = batch.nan_to_num(0)
    compiled = torch.compile(model, fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(batch, sizes=sizes), model(batch, sizes=sizes))


# By config, in the tasks


def classification(kind: str) -> tuple[nn.Module, dict]:
    from mmpretrain.structures import DataSample

    cfg = small_models.classifier()
    cfg.model.update(type='resformer_mm.MultiResolutionClassifier')
    cfg.model.backbone.update(local_position=dict(type=kind))
    inputs = [torch.randint(0, 256, (2, 3, *size)).float() for size in ((48, 70), (40, 33))]
    return load_model(cfg, device='cpu'), dict(
        inputs=inputs, data_samples=[DataSample().set_gt_label(label) for label in (1, 4)]
    )


def segmentation(kind: str) -> tuple[nn.Module, dict]:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    cfg = small_models.segmentor()
    cfg.model.data_preprocessor.update(size=(40, 70))
    cfg.model.backbone.update(local_position=dict(type=kind))
    inputs = [torch.randint(0, 256, (3, 40, 70), dtype=torch.uint8) for _ in range(2)]
    shape = dict(img_shape=(40, 70), ori_shape=(40, 70))
    samples = [
        SegDataSample(metainfo=shape, gt_sem_seg=PixelData(data=torch.randint(0, 5, (1, 40, 70))))
        for _ in inputs
    ]
    return load_model(cfg, device='cpu'), dict(inputs=inputs, data_samples=samples)


def detection(kind: str) -> tuple[nn.Module, dict]:
    """With one block of windows, and two images that are padded to one size."""
    model = detection_models.tiny(local_position=dict(type=kind))
    return model, detection_models.samples([(48, 110), (90, 60)], [2, 1])


def video(kind: str, attention_type: str) -> tuple[nn.Module, dict]:
    cfg = Config(dict(default_scope='mmaction'))
    enter_scope(cfg)
    from mmaction.structures import ActionDataSample

    arch = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
    cfg.model = dict(
        type='resformer_mm.MultiResolutionRecognizer',
        data_preprocessor=dict(
            type='resformer_mm.MultiResolutionActionDataPreprocessor', mean=[100.0] * 3, std=[50.0] * 3
        ),
        backbone=dict(
            type='resformer_mm.VideoResFormer',
            arch=arch,
            num_frames=2,
            attention_type=attention_type,
            local_position=dict(type=kind),
        ),
        cls_head=dict(type='TimeSformerHead', num_classes=4, in_channels=24, average_clips='prob'),
    )
    inputs = [
        torch.randint(0, 256, (2, 1, 3, 2, height, width), dtype=torch.uint8)
        for height, width in ((40, 50), (32, 20))
    ]
    samples = [ActionDataSample(metainfo=dict(filename=f'{i}.mp4')).set_gt_label(i) for i in range(2)]
    return load_model(cfg, device='cpu'), dict(inputs=inputs, data_samples=samples)


TASKS: dict[str, Callable[[str], tuple[nn.Module, dict]]] = {
    'classification': classification,
    'segmentation': segmentation,
    'detection': detection,
    'video, divided': lambda kind: video(kind, 'divided_space_time'),
    'video, joint': lambda kind: video(kind, 'joint_space_time'),
}


def check_attention(attn: Attention, args: tuple, kwargs: dict, out: Tensor) -> None:
    """Compare what an attention gave in the model with the literal formulas, image by image."""
    tokens, grid = args
    padding = kwargs.get('padding')
    num_frames, grid = (grid[0], grid[1:]) if len(grid) == 3 else (1, grid)
    for index, image in enumerate(tokens):
        own, seen = grid, slice(None)
        if padding is not None:
            own, seen = padding.grids[index], padding.valid[index]
        expected = literal_attention(attn, image[seen], own, num_frames)
        torch.testing.assert_close(out[index, seen], expected.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.libraries
@EACH_KIND
@pytest.mark.parametrize(
    'task',
    [
        'classification',
        pytest.param('segmentation', marks=pytest.mark.operators('mmseg')),
        pytest.param('detection', marks=pytest.mark.operators('mmdet')),
        'video, divided',
        'video, joint',
    ],
)
def test_a_new_module_is_used_by_config(kind: str, task: str) -> None:
    torch.manual_seed(0)
    model, data = TASKS[task](kind)
    model.train()
    positions = [module for module in model.modules() if isinstance(module, LocalPosition)]
    assert len(positions) == 2 and all(type(position).__name__ == kind for position in positions)
    for parameter in model.backbone.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)  # tokens and scores that tell positions apart
    for position in positions:
        for parameter in position.parameters():
            nn.init.normal_(parameter, std=1)
    checked = []

    def check(attn: Attention, args: tuple, kwargs: dict, out: Tensor) -> None:
        check_attention(attn, args, kwargs, out)
        checked.append((type(attn), kwargs.get('padding') is not None, args[1]))

    hooks = [
        module.register_forward_hook(check, with_kwargs=True)
        for module in model.modules()
        if isinstance(module, Attention) and module.local_position is not None
    ]

    def loss() -> Tensor:
        torch.manual_seed(0)
        batch = model.data_preprocessor(data, training=True)
        return model.parse_losses(model(**batch, mode='loss'))[0]

    value = loss()
    for hook in hooks:
        hook.remove()
    value.backward()
    assert value.isfinite()
    for position in positions:
        for name, parameter in position.named_parameters():
            assert parameter.grad is not None, name
    # Not of the last block, which may compute the class token alone; nor of a constant added to all scores.
    for name, parameter in positions[0].named_parameters():
        assert parameter.grad.any() or name == 'out.bias', name
    with torch.no_grad():
        for position in positions:
            for parameter in position.parameters():
                parameter.zero_()
        assert abs(loss() - value) > 1e-5

    kinds = {(attention, is_padded) for attention, is_padded, _ in checked}
    if task == 'detection':
        assert kinds == {(WindowAttention, True), (Attention, True)}
    elif task == 'video, joint':
        assert kinds == {(JointAttention, False)}
    else:
        assert kinds == {(Attention, False)}
    assert any(grid[-1] != grid[-2] for _, _, grid in checked)
