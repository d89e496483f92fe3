"""Attention by matrix products against the fused kernel and a softmax in float64."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from resformer_mm.models import ResFormer
from resformer_mm.models.layers import dot_product

SHAPES = [(2, 3, 17, 17, 32, 32), (1, 2, 65, 65, 64, 64), (3, 1, 1, 50, 32, 8), (2, 2, 9, 31, 16, 16)]


@pytest.fixture
def with_products(monkeypatch):
    monkeypatch.setattr(dot_product, '_multiplies_without_amx', lambda: True)


@pytest.fixture
def fused_calls(monkeypatch):
    calls = []
    fused = F.scaled_dot_product_attention

    def record(query, *args, **kwargs):
        calls.append(tuple(query.shape))
        return fused(query, *args, **kwargs)

    monkeypatch.setattr(dot_product.F, 'scaled_dot_product_attention', record)
    return calls


def literal(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """Softmax over the keys, one query after the other, in float64."""
    out = torch.zeros(*query.shape[:-1], value.shape[-1], dtype=torch.float64)
    for batch, head, row in itertools.product(*map(range, query.shape[:3])):
        scores = []
        for column in range(key.shape[2]):
            product = query[batch, head, row].double() @ key[batch, head, column].double()
            scores.append(product / math.sqrt(query.shape[3]) if scale is None else product * scale)
        row_scores = torch.stack(scores)
        if mask is not None:
            own = mask.expand(*query.shape[:3], key.shape[2])[batch, head, row]
            if mask.dtype == torch.bool:
                row_scores[~own] = -math.inf
            else:
                row_scores = row_scores + own.double()
        weights = torch.exp(row_scores - row_scores.max())
        out[batch, head, row] = weights / weights.sum() @ value[batch, head].double()
    return out


def operands(shape, dtype=torch.bfloat16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    batch, heads, queries, keys, channels, out = shape
    sizes = [(queries, channels), (keys, channels), (keys, out)]
    return [torch.randn(batch, heads, *size, generator=generator).to(dtype) for size in sizes]


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('kind', ['none', 'bias', 'keys', 'scale'])
def test_products_equal_the_literal_softmax(shape, kind, with_products, fused_calls):
    torch.manual_seed(0)
    query, key, value = operands(shape)
    mask, scale = None, None
    if kind == 'bias':
        mask = torch.randn(1, shape[1], shape[2], shape[3]).to(torch.bfloat16)
    elif kind == 'keys':
        mask = torch.rand(shape[0], 1, 1, shape[3]) < 0.6
        mask[..., 0] = True
    elif kind == 'scale':
        scale = 0.4
    found = dot_product.dot_product_attention(query, key, value, mask, scale)
    assert not fused_calls
    assert found.dtype == torch.bfloat16
    expected = literal(query, key, value, mask, scale)
    fused = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    assert (found.double() - expected).norm() < 3 * (
        fused.double() - expected
    ).norm() + 0.005 * expected.norm()


@pytest.mark.parametrize('shape', SHAPES[:2])
def test_gradients_of_products(shape, with_products):
    rounded = operands(shape)
    grads = {}
    for name, dtype in (('products', torch.bfloat16), ('fused', torch.bfloat16), ('exact', torch.float64)):
        parts = [x.detach().clone().to(dtype).requires_grad_() for x in rounded]
        attend = F.scaled_dot_product_attention if name == 'fused' else dot_product.dot_product_attention
        attend(*parts).double().pow(2).sum().backward()
        grads[name] = [x.grad.double() for x in parts]
    for products, fused, exact in zip(*grads.values()):
        assert (products - exact).norm() < 3 * (fused - exact).norm() + 0.005 * exact.norm()


def test_other_types_and_large_scores_use_the_fused_kernel(with_products, fused_calls, monkeypatch):
    dot_product.dot_product_attention(*operands(SHAPES[0], torch.float32))
    assert len(fused_calls) == 1
    monkeypatch.setattr(dot_product, 'MAX_SCORES', 2 * 40 * 40 - 1)
    dot_product.dot_product_attention(*operands((1, 2, 40, 40, 2, 2)))
    assert len(fused_calls) == 2
    monkeypatch.setattr(dot_product, 'MAX_SCORES', 2 * 40 * 40)
    dot_product.dot_product_attention(*operands((1, 2, 40, 40, 2, 2)))
    assert len(fused_calls) == 2


def test_other_processors_use_the_fused_kernel(fused_calls, monkeypatch):
    monkeypatch.setattr(dot_product, '_multiplies_without_amx', lambda: False)
    dot_product.dot_product_attention(*operands(SHAPES[0]))
    assert len(fused_calls) == 1


@pytest.mark.parametrize(
    'flags, expected',
    [
        ({'avx512f', 'avx512_bf16'}, True),
        ({'avx512_bf16', 'amx_bf16'}, False),
        ({'avx2'}, False),
        ({'asimd', 'bf16'}, False),
        (set(), False),
    ],
)
def test_processors(flags, expected, monkeypatch):
    monkeypatch.setattr(dot_product, 'CPU_FLAGS', frozenset(flags))
    assert dot_product._multiplies_without_amx() is expected


@pytest.mark.skipif(torch.__version__ < '2.5', reason='earlier versions cannot trace the choice')
@pytest.mark.parametrize('flags', [{'avx512_bf16'}, {'avx512_bf16', 'amx_bf16'}])
def test_compiled(flags, monkeypatch):
    monkeypatch.setattr(dot_product, 'CPU_FLAGS', frozenset(flags))
    graphs = []

    def backend(graph, inputs):
        graphs.append(str(graph.graph))
        return graph

    torch.compiler.reset()
    attend = torch.compile(dot_product.dot_product_attention, backend=backend, fullgraph=True, dynamic=True)
    for shape in ((2, 3, 20, 20, 8, 8), (2, 3, 30, 30, 8, 8)):
        operands_of = operands(shape)
        assert torch.equal(attend(*operands_of), dot_product.dot_product_attention(*operands_of))
    assert len(graphs) == 1
    assert ('scaled_dot_product_attention' in graphs[0]) is ('amx_bf16' in flags)
    torch.compiler.reset()


def test_exported_programs_contain_the_fused_operator(with_products):
    model = ResFormer(
        arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32), patch_size=8
    )
    model = model.to(torch.bfloat16).eval()
    image = torch.rand(2, 3, 32, 24, dtype=torch.bfloat16)
    program = torch.export.export(model, (image,))
    assert 'scaled_dot_product_attention' in str(program.graph)


def test_backbone_in_bfloat16(with_products, fused_calls, monkeypatch):
    torch.manual_seed(0)
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    model = ResFormer(arch=arch, patch_size=8, out_type='raw').eval()
    image = torch.rand(2, 3, 40, 56)
    with torch.autocast('cpu', torch.bfloat16):
        products = model(image)[0]
    assert not fused_calls
    monkeypatch.setattr(dot_product, '_multiplies_without_amx', lambda: False)
    with torch.autocast('cpu', torch.bfloat16):
        fused = model(image)[0]
    assert len(fused_calls) == 2
    expected = model(image)[0]
    assert (products - expected).norm() < 1.5 * (fused - expected).norm() + 1e-3 * expected.norm()
