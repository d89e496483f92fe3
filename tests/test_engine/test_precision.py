"""bfloat16 on processors with and without instructions for it."""

import re

import pytest
import torch
from torch import nn

from resformer_mm import repairs
from resformer_mm.engine import AutocastOptimWrapper, precision
from resformer_mm.environment import half_precision


@pytest.fixture
def told(monkeypatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(repairs, '_told', set())
    monkeypatch.setattr(repairs, 'print_log', lambda text, **_: lines.append(text))
    return lines


@pytest.mark.parametrize(
    ('native', 'ratio', 'kind', 'line'),
    [
        (True, 0.26, torch.bfloat16, None),
        (True, 1.3, torch.float32, 'bfloat16 takes 1.3 times as long as in float32 .*: float32 is used'),
        (False, None, torch.float32, 'no bfloat16 instructions .* float32 is used'),
        (None, 0.48, torch.bfloat16, 'bfloat16 takes 0.48 times as long as in float32 .*: bfloat16 is used'),
        (None, 2.71, torch.float32, 'bfloat16 takes 2.7 times as long as in float32 .*: float32 is used'),
    ],
)
def test_the_processor_decides(monkeypatch, told, native, ratio, kind, line):
    """By its instructions, and by a measurement where they are there or unknown."""
    monkeypatch.setattr(precision, 'has_native_bfloat16', lambda: native)
    monkeypatch.setattr(precision, 'product_ratio', lambda kind: ratio)
    layer = nn.Linear(2, 2)
    wrapper = AutocastOptimWrapper(torch.optim.SGD(layer.parameters(), 0.1))
    for _ in range(2):
        with wrapper.optim_context(layer):
            assert layer(torch.ones(1, 2)).dtype == kind
        assert precision.half_pays('bfloat16', 'cpu', 'another field') is (kind is torch.bfloat16)
    assert len(told) == (line is not None)
    assert line is None or re.search(f'optim_wrapper.type=AutocastOptimWrapper: .*{line}', told[0])


@pytest.mark.parametrize(('ratio', 'used'), [(0.5, 'float16'), (4.0, 'float32'), (float('inf'), 'float32')])
def test_float16_is_measured_everywhere(monkeypatch, told, ratio, used):
    monkeypatch.setattr(precision, 'has_native_bfloat16', lambda: True)
    monkeypatch.setattr(precision, 'product_ratio', lambda kind: ratio if kind == 'float16' else 0.3)
    assert precision.half_pays('float16', 'cpu', '--dtype') is (used == 'float16')
    assert precision.half_pays('bfloat16', 'cpu', '--dtype')
    [line] = told
    assert line.startswith('--dtype: a matrix product in float16 takes') and line.endswith(f'{used} is used')


def test_only_processors_are_asked(monkeypatch):
    monkeypatch.setattr(precision, 'has_native_bfloat16', lambda: False)
    assert precision.half_pays('bfloat16', 'cuda:1', 'a field')


@pytest.mark.parametrize('slow', [torch.float32, torch.bfloat16])
def test_the_measurement(monkeypatch, slow):
    """With products that take a known time."""
    now = 0.0

    def multiply(one, other):
        nonlocal now
        now += 3.0 if one.dtype is slow else 1.0
        assert torch.get_num_threads() == 1

    monkeypatch.setattr(half_precision, 'perf_counter', lambda: now)
    monkeypatch.setattr(torch, 'mm', multiply)
    threads = torch.get_num_threads()
    expected = 3 if slow is torch.bfloat16 else 1 / 3
    assert half_precision.product_ratio.__wrapped__('bfloat16') == pytest.approx(expected)
    assert torch.get_num_threads() == threads


def test_a_product_that_pytorch_lacks(monkeypatch):
    def multiply(one, other):
        if one.dtype is torch.float16:
            raise RuntimeError('"addmm_impl_cpu_" not implemented for \'Half\'')

    monkeypatch.setattr(torch, 'mm', multiply)
    assert half_precision.product_ratio.__wrapped__('float16') == float('inf')
