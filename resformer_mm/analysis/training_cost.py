"""Cost of a multi-resolution training per image, from the declared schedule of its resolutions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel

from resformer_mm.config.resolutions import check_resolutions, list_resolutions
from resformer_mm.config_types import type_name
from resformer_mm.datasets.samplers import ResolutionBatchSampler
from resformer_mm.models.backbones import ResFormer
from resformer_mm.models.layers import token_grids
from resformer_mm.registry import DATA_SAMPLERS
from resformer_mm.text import table

from .resolution_complexity import complexity_at

BATCHES = 50  # drawn for an epoch


@dataclass(frozen=True)
class TrainingCost:
    """What one image costs in one epoch, as the mean over all images and epochs.

    Attributes:
        copies: resolution -> number of copies.
        tokens: tokens of all copies in the first block, the class token and registers included; None for a
            backbone without tokens.
        flops: multiply-adds of the forward passes of all copies. Those of the backward passes are in
            proportion to them.
    """

    copies: dict[int, float]
    tokens: float | None
    flops: float


def training_cost(model: BaseModel, copies: Mapping[int, float] | None = None) -> TrainingCost:
    """Return the cost of the training of a classifier.

    Args:
        model: a model returned by :func:`~resformer_mm.apis.load_model`.
        copies: resolution -> number of copies of an image in an epoch; by default those of the config, see
            :func:`copies_per_image`.

    Raises:
        ValueError: the config trains on no list of resolutions, or its batch sampler is of another kind.
    """
    copies = dict(copies_per_image(model.cfg) if copies is None else copies)
    with dropped_tokens(model):
        flops = sum(number * complexity_at(model, (size, size)).flops for size, number in copies.items())
    tokens = [
        number * count for size, number in copies.items() if (count := _tokens(model, size)) is not None
    ]
    return TrainingCost(copies, sum(tokens) if len(tokens) == len(copies) else None, flops)


def copies_per_image(
    cfg: Config, weights: Sequence[Sequence[float]] | None = None, batches: int = BATCHES
) -> dict[int, float]:
    """Return resolution -> copies of an image in an epoch, the mean over all epochs of the config.

    The batch sampler of the config draws some whole batches of every epoch.

    Args:
        cfg: config of a training that counts epochs.
        weights: weights of the resolutions in every epoch, if a hook has changed them during training; by
            default those of the config.
        batches: number of batches drawn for an epoch.

    Raises:
        ValueError: the config trains on no list of resolutions, or its batch sampler is of another kind.
    """
    loader = cfg.get('train_dataloader') or {}
    resolutions = _transform_resolutions(loader.get('dataset'))
    if resolutions is None:
        raise ValueError(
            f'{cfg.filename or "the config"}: train_dataloader.dataset has no MultiResolution transform, so '
            'the resolutions of the training are not known'
        )
    if loader.get('batch_sampler') is None:
        return dict.fromkeys(resolutions, 1.0)
    epochs, size = (cfg.get('train_cfg') or {}).get('max_epochs'), loader.get('batch_size')
    if epochs is None or size is None:
        raise ValueError(
            f'{cfg.filename or "the config"}: set train_cfg.max_epochs and train_dataloader.batch_size, '
            'which the draws of train_dataloader.batch_sampler depend on'
        )
    sampler = _sampler(loader['batch_sampler'].to_dict(), resolutions, size, batches)
    if getattr(sampler, 'max_epochs', epochs) is None:
        sampler.max_epochs = epochs  # type: ignore[attr-defined]
    counts: Counter[int] = Counter()
    for epoch in range(epochs):
        rng = np.random.default_rng([sampler.seed, epoch])
        if weights is not None:
            sampler.set_weights(weights[epoch])
        for number in range(batches):
            for own in sampler.draw_copies(rng, epoch, number, size):
                counts.update(own)
    return {one: counts[one] / (epochs * batches * size) for one in resolutions if counts[one]}


@contextmanager
def dropped_tokens(model: BaseModel) -> Iterator[None]:
    """Let a backbone drop tokens outside of training as well, as it does in training."""
    drop = getattr(model.backbone, 'token_drop', None)
    if drop is not None:
        drop.always = True
    try:
        yield
    finally:
        if drop is not None:
            drop.always = False


def format_costs(costs: Mapping[str, TrainingCost], reference: TrainingCost) -> str:
    """Return a Markdown table of costs per image and epoch.

    Args:
        costs: name -> cost.
        reference: the cost that the last two columns are relative to.
    """
    sizes = sorted({size for cost in costs.values() for size in cost.copies}, reverse=True)
    rows = []
    for name, cost in costs.items():
        copies = [f'{cost.copies[size]:.2f}' if size in cost.copies else '' for size in sizes]
        of_tokens = ''
        if cost.tokens is not None and reference.tokens is not None:
            of_tokens = f'{cost.tokens / reference.tokens:.2f}'
        tokens = '' if cost.tokens is None else f'{cost.tokens:.1f}'
        relative = f'{cost.flops / reference.flops:.2f}'
        rows.append([name, *copies, tokens, f'{cost.flops / 1e9:#.4g}', of_tokens, relative])
    header = ['training', *(f'at {size}' for size in sizes), 'tokens', 'GFLOPs', 'tokens /', 'GFLOPs /']
    return table(header, rows, justify='right')


def _sampler(config: dict, resolutions: list[int], size: int, batches: int) -> ResolutionBatchSampler:
    kind = config['type']
    kind = DATA_SAMPLERS.get(kind) if isinstance(kind, str) else kind
    if kind is None or not issubclass(kind, ResolutionBatchSampler):
        raise ValueError(
            f'train_dataloader.batch_sampler of type {type_name(config["type"])} draws no resolutions: its '
            'type is resformer_mm.ResolutionBatchSampler or derived from it'
        )
    transform = SimpleNamespace(resolutions=resolutions)
    dataset = _Images(SimpleNamespace(transforms=[transform]), batches * size)
    inner = DefaultSampler(dataset, shuffle=False, seed=0)
    settings: dict[str, Any] = {'batch_size': size, 'seed': 0, **config, 'sampler': inner}
    return DATA_SAMPLERS.build(settings)


@dataclass
class _Images:
    """As many images as a sampler needs to know of."""

    pipeline: Any
    number: int

    def __len__(self) -> int:
        return self.number


def _transform_resolutions(config: Any) -> list[int] | None:
    """Return the resolutions of the first transform with some, in nested configs."""
    if isinstance(config, Mapping):
        if 'resolutions' in config:
            field = 'MultiResolution.resolutions'
            return check_resolutions(list_resolutions(config['resolutions'], field), field)
        config = list(config.values())
    if isinstance(config, Sequence) and not isinstance(config, str):
        found = (_transform_resolutions(one) for one in config)
        return next((one for one in found if one is not None), None)
    return None


def _tokens(model: BaseModel, size: int) -> int | None:
    """Return the tokens of a square image in the first block, in training."""
    backbone = model.backbone
    if not isinstance(backbone, ResFormer):
        return None
    ((height, width),) = token_grids([(size, size)], backbone.patch_size)
    height, width = backbone.grid_after((height, width), 0)
    drop = backbone.token_drop
    patches = height * width if drop is None else drop.number((height, width))
    return patches + backbone.num_prefix_tokens
