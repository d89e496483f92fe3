"""The pooling of exported files against that of PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resformer_mm.deployment.pooling import ExportableAdaptivePooling, adaptive_average


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (6, 6), (7, 13), (20, 3)])
@pytest.mark.parametrize('output', [1, 2, 3, 6, (2, 5), (None, 3), (4, None)])
def test_the_means_are_those_of_pytorch(size: tuple[int, int], output) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(adaptive_average(image, output), F.adaptive_avg_pool2d(image, output))


def test_layers_use_it_only_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr('resformer_mm.deployment.pooling.adaptive_average', lambda *args: calls.append(args))
    layer, image = nn.AdaptiveAvgPool2d((2, 3)), torch.ones(1, 1, 4, 6)
    layer(image)
    assert not calls
    with ExportableAdaptivePooling():
        layer(image)
        assert image.mean() == 1  # other functions are as they were
    (call,) = calls
    assert call[0] is image and call[1] == (2, 3)
