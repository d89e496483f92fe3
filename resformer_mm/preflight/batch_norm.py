"""Batch normalisation of a single value, which PyTorch refuses."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmengine.model import revert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resformer_mm.config_types import type_field, type_name
from resformer_mm.datasets.checks.report import Finding

from .subject import Subject

KIND = 'batch normalisation of one value per channel'


class _SingleValueError(Exception):
    """A layer receives one value per channel."""


def check_batch_norm(subject: Subject) -> Iterator[Finding]:
    """Run one sample forward if a training batch can have only one, and look at what the layers receive."""
    where = _single_batches(subject)
    if where is None or subject.samples_per_process < 1:
        return
    model = subject.model
    layers = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    if subject.world_size > 1:  # synchronised layers see the batches of all processes
        layers = {name: m for name, m in layers.items() if 'Sync' not in type(m).__name__}
    if not layers:
        return
    names = list(layers)
    model = revert_sync_batchnorm(model)
    modules = dict(model.named_modules())
    found: list[str] = []
    handles = [modules[name].register_forward_pre_hook(_catch(name, found)) for name in names]
    try:
        model.train()
        collate = subject.loader('train').collate_fn
        data = model.data_preprocessor(collate(subject.samples('train')[:1]), training=True)
        with torch.no_grad():
            model(**data, mode='loss') if isinstance(data, dict) else model(*data, mode='loss')
    except Exception:
        if not found:
            return  # another problem, which other checks or the run itself report
    finally:
        for handle in handles:
            handle.remove()
    if found:
        field, reason = where
        yield Finding(
            field,
            KIND,
            f'{reason}, and model.{found[0]} then has one value per channel, which PyTorch refuses to '
            'normalise. Use batches of at least two samples (train_dataloader.batch_size, '
            'train_dataloader.drop_last=True), or a norm_cfg without batch statistics, such as GN or LN',
        )


def _single_batches(subject: Subject) -> tuple[str, str] | None:
    """Return the field that makes batches of one sample, and a sentence about it; None if there are none."""
    settings = subject.cfg.get('train_dataloader') or {}
    size = settings.get('batch_size')
    if size is None or settings.get('batch_sampler') is not None:
        return None
    if size == 1:
        return 'train_dataloader.batch_size', 'a batch has one sample'
    sampler = type_name(type_field(settings.get('sampler')))
    if settings.get('drop_last') or 'Infinite' in sampler:
        return None
    number = subject.samples_per_process
    if number % size != 1:
        return None
    iterations = (subject.cfg.get('train_cfg') or {}).get('max_iters')
    if not subject.is_by_epoch and iterations is not None and iterations < number // size + 1:
        return None
    return (
        'train_dataloader.drop_last',
        f'the last of the batches of {size} has one sample, since {number} samples are drawn per process',
    )


def _catch(name: str, found: list[str]):
    def look(module: nn.Module, inputs: tuple) -> None:
        x = inputs[0]
        if module.training and isinstance(x, torch.Tensor) and x.numel() == x.shape[1]:
            found.append(name)
            raise _SingleValueError

    return look
