"""What a config says about the costs of its training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from resformer_mm.config.resolutions import list_resolutions
from resformer_mm.config_types import type_field, type_name
from resformer_mm.preflight.storage import AVERAGING, checkpoint_bytes, weight_bytes
from resformer_mm.preflight.subject import Subject
from resformer_mm.strategies.fsdp import block_units

from .costs import Workload


def read_workload(cfg: Config) -> Workload:
    """Return the workload of a training.

    Args:
        cfg: config of the training, in whose scope names are looked up.

    Raises:
        BuildError: the model cannot be built.
        ValueError: the config trains nothing, or does not set a batch size.
    """
    loader, wrapper = cfg.get('train_dataloader'), cfg.get('optim_wrapper')
    if not isinstance(loader, dict) or not isinstance(wrapper, dict):
        raise ValueError(f'{cfg.filename} has no train_dataloader or no optim_wrapper: it trains nothing')
    batch_size = loader.get('batch_size') or (loader.get('batch_sampler') or {}).get('batch_size')
    if batch_size is None:
        raise ValueError(f'{cfg.filename}: set train_dataloader.batch_size')
    subject = Subject(cfg)
    parameters = list(subject.model.parameters())
    weights = sum(parameter.nbytes for parameter in parameters)
    stored = weight_bytes(subject)
    checkpoint = checkpoint_bytes(subject, {})
    averaged = any(type_name(type_field(hook)) in AVERAGING for _, hook in subject.hooks())
    return Workload(
        name=re.split(r'_\d+xb', Path(cfg.filename or 'config').stem)[0],
        weights=weights,
        blocks=sum(
            parameter.nbytes for unit in block_units(subject.model) for parameter in unit.parameters()
        ),
        gradients=sum(parameter.nbytes for parameter in parameters if parameter.requires_grad),
        states=checkpoint - stored,
        averages=weights if averaged else 0,
        checkpoint=checkpoint,
        batch_size=batch_size,
        copies=copies_of_step(loader),
        lr=(wrapper.get('optimizer') or {}).get('lr', 0.0),
        base_batch_size=(cfg.get('auto_scale_lr') or {}).get('base_batch_size'),
    )


def copies_of_step(config: Any) -> int:
    """Return the number of resolutions of a step in nested configs of a loader; 1 without several."""
    if isinstance(config, dict):
        kind = type_name(type_field(config))
        if (drawn := _drawn(config.get('batch_sampler'))) is not None:
            return drawn
        own = config.get('resolutions') if kind == 'MultiResolution' else None
        own = list_resolutions(own or [0], 'MultiResolution.resolutions')
        return max([len(own), *map(copies_of_step, config.values())])
    return max(map(copies_of_step, config), default=1) if isinstance(config, (list, tuple)) else 1


def _drawn(sampler: Mapping | None) -> int | None:
    """Return how many resolutions a batch sampler draws; None if it draws none."""
    if not sampler:
        return None
    kind = type_name(type_field(sampler))
    if kind == 'MultiResolutionBatchSampler':
        return sampler.get('number', 3)
    if kind == 'ImageResolutionBatchSampler':
        return len(sampler.get('keep', ())) + 1
    if kind == 'StagedResolutionBatchSampler':
        return max(map(len, sampler.get('stages') or [()]), default=1) or 1
    return 1 if kind in ('ResolutionBatchSampler', 'EpochResolutionBatchSampler') else None
