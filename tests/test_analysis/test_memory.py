"""Measured memory against the sizes of tensors that are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resformer_mm.analysis.memory import peak_memory

MiB = 2**20
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
DEVICES = ['cpu', pytest.param('cuda', marks=needs_gpu)]


def block(mebibytes: int, device: str) -> torch.Tensor:
    return torch.empty(mebibytes * MiB, dtype=torch.uint8, device=device)


@pytest.mark.parametrize('device', DEVICES)
def test_peak_is_the_most_that_was_held_at_once(device):
    before = block(16, device)

    def call() -> torch.Tensor:
        first, second = block(4, device), block(8, device)  # 12
        del first
        third = block(3, device)  # 11
        del second
        return third

    assert peak_memory(call, device) == 12 * MiB
    assert before.numel() == 16 * MiB


@pytest.mark.parametrize('device', DEVICES)
def test_blocks_that_are_given_out_again(device):
    def call() -> None:
        for _ in range(5):
            held = block(4, device)
            del held
        held = [block(4, device) for _ in range(3)]
        assert len(held) == 3

    assert peak_memory(call, device) == 12 * MiB


@pytest.mark.parametrize('device', DEVICES)
def test_what_stays_is_counted_once(device):
    kept = []
    assert peak_memory(lambda: kept.append(block(4, device)), device) == 4 * MiB
    assert peak_memory(lambda: kept.append(block(2, device)), device) == 2 * MiB
    kept.clear()
    assert peak_memory(lambda: kept.append(block(4, device)), device) == 4 * MiB
    assert peak_memory(lambda: None, device) == 0


def test_memory_from_before_that_a_call_frees_is_no_credit_on_the_cpu():
    kept = []
    peak_memory(lambda: kept.append(block(8, 'cpu')), 'cpu')
    kept.append(block(32, 'cpu'))

    def call() -> tuple:
        held = block(4, 'cpu')
        kept.clear()
        return held, block(8, 'cpu')

    assert peak_memory(call, 'cpu') == 12 * MiB


@pytest.mark.parametrize('device', DEVICES)
def test_a_backward_pass_holds_activations_and_gradients(device):
    layers = [module for _ in range(3) for module in (nn.Linear(512, 512, bias=False), nn.ReLU())]
    model, image = nn.Sequential(*layers).to(device), torch.ones(2048, 512, device=device)
    activation, weight = 2048 * 512 * 4, 512 * 512 * 4

    def forward() -> None:
        with torch.no_grad():
            model(image)

    def step() -> None:
        model(image).sum().backward()

    assert peak_memory(forward, device) == pytest.approx(2 * activation, rel=0.02)
    trained = peak_memory(step, device)
    assert 3 * activation + 3 * weight <= trained <= 8 * activation + 3 * weight
    with pytest.raises(ZeroDivisionError):
        peak_memory(lambda: 1 // 0, device)
    assert peak_memory(forward, device) == pytest.approx(2 * activation, rel=0.02)


def test_another_device_is_named():
    with pytest.raises(ValueError, match="'cpu' and 'cuda', not on 'meta'"):
        peak_memory(lambda: None, 'meta')
