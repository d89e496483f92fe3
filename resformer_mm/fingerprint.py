"""Fingerprints of what metrics depend on: the settings of an evaluation, and the weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from mmengine.config import Config
from torch import Tensor


def evaluation_settings(cfg: Config) -> str:
    """Return the text of the settings that metrics and costs depend on."""
    fields = ('model', 'data_preprocessor', 'test_dataloader', 'test_evaluator')
    return Config({name: cfg.get(name) for name in fields}).pretty_text


def fingerprint(text: str, state: Mapping[str, Tensor]) -> str:
    """Return a hash of a text and of named weights."""
    digest = hashlib.sha256(text.encode())
    for name, value in state.items():
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
