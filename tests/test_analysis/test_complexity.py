"""Counted multiply-adds against a count by hand, and against PyTorch's own counter."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resformer_mm.analysis.complexity import analyze_flops, count_complexity
from resformer_mm.models import ResFormer
from resformer_mm.registry import MODELS

ARCHES = {
    'tiny': dict(embed_dims=192, num_layers=12, num_heads=3, feedforward_channels=768),
    'small': dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536),
    'mini': dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
}
SIZES = {
    'tiny': [(96, 96), (128, 128), (224, 224), (130, 97)],
    'small': [(96, 96), (224, 320), (16, 31)],
    'mini': [(96, 96), (64, 48), (48, 224), (131, 97), (8, 9)],
}


def count_by_hand(arch: dict, patch: int, height: int, width: int, classes: int = 0, cls_only: bool = True):
    """Multiply-adds by part of a ResFormer with a class token, from the paper's equations."""
    channels, hidden, layers = arch['embed_dims'], arch['feedforward_channels'], arch['num_layers']
    grid = math.ceil(height / patch) * math.ceil(width / patch)
    tokens = grid + 1
    parts = {
        'patch embedding': grid * 3 * patch * patch * channels,
        'global position': grid * channels * 9,
        'local position': 0,
        'attention': 0,
        'projections': 0,
        'MLP': 0,
        'normalisation': 0,
        'head': classes * channels,
    }
    for layer in range(layers):
        # The last block: keys and values of all tokens, but one query, one output row and one MLP row.
        last = cls_only and layer == layers - 1
        rows = 1 if last else tokens
        parts['projections'] += (rows + 2 * tokens) * channels * channels + rows * channels * channels
        parts['attention'] += 2 * rows * tokens * channels  # over the heads, Q K^T and A V
        parts['local position'] += 0 if last else grid * channels * 9
        parts['MLP'] += 2 * rows * channels * hidden
        parts['normalisation'] += 5 * (tokens + rows) * channels
    parts['normalisation'] += 5 * (1 if cls_only else tokens) * channels
    return {part: flops for part, flops in parts.items() if flops}


def classifier(arch: dict, patch: int, num_classes: int = 10) -> nn.Module:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=dict(type='resformer_mm.ResFormer', arch=arch, patch_size=patch),
                head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=arch['embed_dims']),
            )
        )


@pytest.fixture(scope='module')
def mini() -> nn.Module:
    return classifier(ARCHES['mini'], 8)


@pytest.mark.slow
@pytest.mark.parametrize('arch, patch', [('tiny', 16), ('small', 16), ('mini', 8)])
def test_count_is_the_count_by_hand(arch, patch):
    model = classifier(ARCHES[arch], patch)
    for height, width in SIZES[arch]:
        complexity = count_complexity(model, torch.zeros(1, 3, height, width))
        expected = count_by_hand(ARCHES[arch], patch, height, width, classes=10)
        assert complexity.by_part == expected, (height, width)
        assert complexity.flops == sum(expected.values()) == sum(complexity.by_operator.values())
        assert complexity.uncounted == {}
        assert complexity.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.slow
def test_published_size_of_a_deit_without_the_saving_in_the_last_block():
    """DeiT-S: 4.6 G multiply-adds at 224, as published; every block computes all tokens here."""
    model = ResFormer(
        'small',
        out_type='raw',
        global_position=dict(type='LearnedPositionEmbedding'),
        local_position=None,
    )
    complexity = count_complexity(model, torch.zeros(1, 3, 224, 224))
    assert round(complexity.flops / 1e9, 1) == 4.6
    expected = count_by_hand(ARCHES['small'], 16, 224, 224, cls_only=False)
    expected.pop('global position'), expected.pop('local position')
    assert complexity.by_part == expected


@pytest.mark.slow
def test_count_grows_with_the_batch_but_for_the_global_position(mini):
    one, three = (count_complexity(mini, torch.zeros(n, 3, 40, 64)).by_part for n in (1, 3))
    assert one.pop('global position') == three.pop('global position')
    assert three == {part: 3 * flops for part, flops in one.items()}


@pytest.mark.parametrize('config', [dict(), dict(window_size=4, window_block_indices=(0, 2))])
def test_matrix_products_agree_with_the_counter_of_pytorch(config):
    """Windows of 4 tokens over a map of 7 x 5: those at its edges have 4, 12 and 3 tokens, and no padding."""
    model = ResFormer(
        dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=48),
        patch_size=8,
        out_type='featmap',
        with_cls_token=False,
        **config,
    ).eval()
    image = torch.zeros(2, 3, 56, 40)
    complexity = count_complexity(model, image)
    # The counter sees the products of the plain way only.
    if torch.__version__ < '2.3':
        plain = torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False)
    else:
        plain = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with plain, FlopCounterMode(display=False) as counter:
        model(image)
    products = complexity.flops - complexity.by_part['normalisation']
    assert 2 * products == counter.get_total_flops()
    if config:
        whole, windowed = (2 * 32 * sum(n * n for n in sizes) for sizes in ([35], [16, 4, 12, 3]))
        assert complexity.by_part['attention'] == 2 * (
            whole + 2 * windowed
        )  # two images, two windowed blocks


@pytest.mark.slow
@pytest.mark.parametrize('training', [True, False])
def test_model_is_left_as_it_was_and_a_warm_cache_changes_nothing(mini, training):
    model = copy.deepcopy(mini).train(training)
    model.backbone.blocks[0].eval()
    model.backbone.norm.requires_grad_(False)
    image = torch.rand(1, 3, 64, 48)
    cold = count_complexity(model, image)
    assert cold.by_part['global position'] == 48 * 128 * 9
    with torch.no_grad():
        expected = copy.deepcopy(model).eval()(image)
        model.backbone.global_position.eval()(grid=(8, 6))  # is kept from now on
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    gradients = [parameter.requires_grad for parameter in model.parameters()]
    with torch.enable_grad():
        assert count_complexity(model, image) == cold
    with torch.inference_mode():
        assert count_complexity(model, image) == cold
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == gradients
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    with torch.no_grad():
        assert torch.equal(model.eval()(image), expected)


def test_count_after_an_image_that_was_too_small(mini):
    with pytest.raises(ValueError, match='7 x 64 pixels is smaller than one patch of 8 x 8'):
        count_complexity(mini, torch.zeros(1, 3, 7, 64))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in mini.modules())
    complexity = count_complexity(mini, torch.zeros(1, 3, 8, 64))
    assert complexity.by_part == count_by_hand(ARCHES['mini'], 8, 8, 64, classes=10)


class Cross(nn.Module):
    """Attention between two inputs of other lengths and widths, and an operator that nobody counts."""

    def forward(self, query, key, value, mask):
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        product = torch.baddbmm(out[0], out[0], out[0].transpose(1, 2) @ out[0])
        return {'sorted': out.sort().values, 'product': product}


def test_other_modules_and_operators_that_are_not_counted():
    query, key, value = torch.zeros(2, 3, 5, 8), torch.zeros(2, 3, 7, 8), torch.zeros(2, 3, 7, 6)
    mask = torch.ones(2, 1, 5, 7, dtype=torch.bool)
    complexity = count_complexity(Cross(), (query, key, value, mask))
    assert complexity.by_part['attention'] == 2 * 3 * 5 * 7 * (8 + 6)
    assert complexity.by_operator['baddbmm'] == complexity.by_operator['matmul'] == 3 * 5 * 6 * 6
    assert complexity.by_part['Cross'] == 2 * 3 * 5 * 6 * 6
    assert complexity.uncounted == {'aten::sort': 1}


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x + torch.randn_like(x))


def test_random_numbers_stay_where_they_were():
    model = Noisy()
    state = torch.random.get_rng_state()
    assert count_complexity(model, torch.zeros(3, 4)).by_module == {'': 48, 'linear': 48}
    assert torch.equal(torch.random.get_rng_state(), state)


def test_data_samples_are_for_models_of_mmengine():
    with pytest.raises(ValueError, match='data_samples are for MMEngine models only, Linear is not one'):
        count_complexity(nn.Linear(2, 2), torch.zeros(1, 2), data_samples=[])


def test_tables_of_mmengine_name_the_modules_of_the_model(mini):
    from mmengine.analysis.print_helper import complexity_stats_table

    table = complexity_stats_table(analyze_flops(mini, torch.zeros(1, 3, 64, 64)))
    assert 'backbone.patch_embed' in table and 'head.fc' in table


@pytest.mark.operators('mmseg')
def test_segmentor_and_detector_of_other_libraries():
    with DefaultScope.overwrite_default_scope('mmseg'):
        backbone = dict(
            type='resformer_mm.ResFormer',
            arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
            out_type='featmap',
        )
        segmentor = MODELS.build(
            dict(
                type='EncoderDecoder',
                backbone=backbone,
                decode_head=dict(
                    type='FCNHead', in_channels=32, channels=8, num_classes=5, num_convs=1, in_index=0
                ),
            )
        )
    complexity = count_complexity(segmentor, torch.zeros(2, 3, 64, 96))
    grid = 4 * 6
    # convolution, the convolution after the concatenation, batch norm of both, classes
    head = 2 * grid * (32 * 8 * 9 + (32 + 8) * 8 * 9 + 8 * 5)
    assert complexity.by_part['decode_head'] == head
    expected = count_by_hand(
        dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64), 16, 64, 96, cls_only=False
    )
    assert complexity.by_part['attention'] == 2 * expected['attention']
