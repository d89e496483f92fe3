"""bfloat16 on processors with and without instructions for it."""

import pytest
import torch
from torch import nn

from resformer_mm import repairs
from resformer_mm.engine import AutocastOptimWrapper, precision


@pytest.fixture
def told(monkeypatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(repairs, '_told', set())
    monkeypatch.setattr(repairs, 'print_log', lambda text, **_: lines.append(text))
    return lines


@pytest.mark.parametrize(
    ('native', 'kind'), [(True, torch.bfloat16), (None, torch.bfloat16), (False, torch.float32)]
)
def test_the_processor_decides(monkeypatch, told, native, kind):
    monkeypatch.setattr(precision, 'has_native_bfloat16', lambda: native)
    layer = nn.Linear(2, 2)
    wrapper = AutocastOptimWrapper(torch.optim.SGD(layer.parameters(), 0.1))
    for _ in range(2):
        with wrapper.optim_context(layer):
            assert layer(torch.ones(1, 2)).dtype == kind
    assert len(told) == (native is False)
    assert native is not False or 'no bfloat16 instructions' in told[0]


def test_only_processors_are_asked(monkeypatch):
    monkeypatch.setattr(precision, 'has_native_bfloat16', lambda: False)
    assert precision.bfloat16_pays('cuda:1', 'a field')
