"""Waiting for devices that are not there: only the calls are recorded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from resformer_mm.compat.synchronizing import synchronize


def test_every_type_of_device(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(torch, 'accelerator', SimpleNamespace(synchronize=calls.append), raising=False)
    for name in ('cpu', 'cuda:1', 'xpu', 'mps'):
        synchronize(name)
    assert calls == [torch.device('cuda:1'), torch.device('xpu'), torch.device('mps')]


def test_earlier_versions_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.delattr(torch, 'accelerator', raising=False)
    for name in ('cuda', 'mps'):
        module = SimpleNamespace(synchronize=lambda name=name: calls.append(name))
        monkeypatch.setattr(torch, name, module)
    for name in ('cpu', 'cuda:0', 'mps'):
        synchronize(name)
    assert calls == ['cuda', 'mps']
