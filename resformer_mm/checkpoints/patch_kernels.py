"""Kernels for further patch sizes, added to a trained model (MSPE, https://arxiv.org/abs/2405.18240)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import MODELS

from resformer_mm.config.files import enter_scope, read_config
from resformer_mm.config.patches import resformer_settings
from resformer_mm.models.layers import added_kernels

from .architecture import further_kernels
from .conversion import write_checkpoint
from .models import check_strict
from .reading import CheckpointError, Weights, read_weights

PREFIX = 'backbone.patch_embed.'
FIRST = f'{PREFIX}proj.weight'


def add_patch_kernels(
    config: str | Path, checkpoint: str | Path, target: str | Path, sides: Sequence[int]
) -> dict[str, Any]:
    """Write a checkpoint with further kernels, which start as the resized first one; the rest is unchanged.

    Args:
        config: config of the model, with or without the further kernels.
        checkpoint: checkpoint of the model; it may have further kernels already.
        target: file to write.
        sides: sides of the kernels to add, in pixels.

    Returns:
        The config of ``model.backbone.patch_embed`` that the file is for.

    Raises:
        CheckpointError: the checkpoint does not fit the model without the kernels, has one of them, or the
            files cannot be read or written.
        FileNotFoundError: there is no such config.
        ValueError: a side is out of range or repeated, or the backbone is not a ResFormer.
    """
    if small := [side for side in sides if side < 1]:
        raise ValueError(f'a kernel of {small[0]} pixels: give sides of at least 1')
    if Path(checkpoint).resolve() == Path(target).resolve():
        raise CheckpointError(f'{target} would overwrite the checkpoint: give another file to write')
    weights = read_weights(checkpoint)
    present = further_kernels(weights.state)
    settings = _read_settings(config)
    own = dict(settings['backbone'].get('patch_embed') or {})
    others = {name: value for name, value in own.items() if name not in ('type', 'kernel_sizes')}
    kind = 'MultiKernelPatchEmbed'
    _check_fit(settings, dict(others, type=kind, kernel_sizes=present) if present else None, weights)
    if doubled := sorted(set(sides) & set(present)):
        raise CheckpointError(f'{checkpoint} has kernels of the sizes {doubled} already: leave them out')
    extended = dict(type=kind, kernel_sizes=[*present, *sides], **others)
    first, bias = weights.state[FIRST], weights.state[f'{PREFIX}proj.bias']
    added = {f'{PREFIX}{name}': tensor for name, tensor in added_kernels(first, bias, sides).items()}
    state = {**weights.state, **added}
    _check_fit(settings, extended, Weights(Path(target), 'state_dict', state))
    compact = {name: value.clone() for name, value in state.items()}
    write_checkpoint(dict(state_dict=compact, meta=dict(dataset_meta=weights.dataset_meta)), target)
    return extended


def _read_settings(config: str | Path) -> dict[str, Any]:
    """Return the settings of the model of a config, and enter its scope."""
    cfg = read_config(config)
    enter_scope(cfg)
    settings = dict(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        settings.setdefault('data_preprocessor', cfg.data_preprocessor)
    resformer_settings(cfg, 'a further patch kernel')
    return settings


def _check_fit(settings: dict[str, Any], patch_embed: dict | None, weights: Weights) -> None:
    """Check that weights are those of a model with a patch embedding."""
    # What training starts from, and freezes, says nothing about the weights.
    backbone = {**settings['backbone'], 'patch_embed': patch_embed, 'init_cfg': None}
    left_out: dict[str, Any] = {name: None for name in ('init_cfg', 'trained') if name in settings}
    check_strict(MODELS.build({**settings, **left_out, 'backbone': backbone}), weights)
