"""Settings of a run that contradict each other or the machine, settled before the runner is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
from torch import nn

from resformer_mm.config.inference_dtype import InferenceDtype, mixed_precision_dtype, read_inference_dtype
from resformer_mm.config_types import find_type, type_field, type_name
from resformer_mm.engine import AutocastOptimWrapper
from resformer_mm.engine.precision import half_pays
from resformer_mm.repairs import remark
from resformer_mm.resuming import ExactCheckpointHook

# PyTorch refuses these settings of a data loader without workers.
NEEDS_WORKERS = ('persistent_workers', 'prefetch_factor', 'timeout', 'multiprocessing_context')


def settle_loaders(cfg: Config) -> None:
    """Drop the settings of data loaders that need workers, where there are none.

    ``train_dataloader.num_workers=0`` is thus enough to load data in the process itself.
    """
    for field, value in cfg.items():
        loaders = value if isinstance(value, (list, tuple)) else [value]
        for loader in loaders if field.endswith('dataloader') else ():
            if isinstance(loader, dict) and loader.get('num_workers', 0) == 0:
                for name in NEEDS_WORKERS:
                    loader.pop(name, None)


def settle_precision(cfg: Config) -> None:
    """Use bfloat16 on a CPU that has instructions for it, and float32 on others.

    MMEngine's ``AmpOptimWrapper``, which refuses to run without a GPU, becomes
    :class:`~resformer_mm.engine.AutocastOptimWrapper` there. ``fp16`` of a loop stays where it pays.
    """
    wrapper, scope = cfg.get('optim_wrapper'), cfg.get('default_scope') or 'mmengine'
    if (
        get_device() == 'cpu'
        and isinstance(wrapper, dict)
        and find_type(type_field(wrapper), OPTIM_WRAPPERS, scope) is AmpOptimWrapper
    ):
        for name in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(name, None)
        wrapper['type'] = f'resformer_mm.{AutocastOptimWrapper.__name__}'
        text = f'it needs a GPU: {wrapper["type"]} takes its place, with bfloat16 instead of float16'
        remark('optim_wrapper.type=AmpOptimWrapper', text)
    for field in ('val_cfg', 'test_cfg'):
        loop = cfg.get(field)
        if isinstance(loop, dict) and loop.get('fp16'):
            loop['fp16'] = get_device() != 'cpu' or half_pays('bfloat16', 'cpu', f'{field}.fp16')


def take_inference_dtype(cfg: Config) -> InferenceDtype:
    """Return the type that a test shall use, of ``inference_dtype`` or ``test_cfg.fp16``, which is removed.

    Raises:
        ValueError: ``inference_dtype`` is not a type of inference.
    """
    name = read_inference_dtype(cfg)
    # MMEngine's loop would run everything under autocast, including the scores of the classes.
    if cfg.test_cfg.pop('fp16', False) and name == 'float32':
        name = mixed_precision_dtype()
    return name


def settle_checkpoints(cfg: Config) -> None:
    """Let :class:`~resformer_mm.resuming.ExactCheckpointHook` take the place of MMEngine's hook."""
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    hook = hooks.setdefault('checkpoint', ConfigDict(type='CheckpointHook', interval=1))
    if (
        hook is not None
        and find_type(type_field(hook), HOOKS, cfg.get('default_scope') or 'mmengine') is CheckpointHook
    ):
        hook['type'] = f'resformer_mm.{ExactCheckpointHook.__name__}'


def replace_norms(config: Any, kinds: Sequence[str], new: str) -> int:
    """Replace the normalisation layers of some types in a model's config, and return their number.

    Args:
        config: the config, changed in place.
        kinds: names of the types.
        new: name of the type in their place.
    """
    if isinstance(config, dict):
        found = type_name(type_field(config)) in kinds
        if found:
            config['type'] = new
            config.pop('stats_mode', None)  # of MMSyncBN alone
        return found + sum(replace_norms(value, kinds, new) for value in dict.values(config))
    if isinstance(config, (list, tuple)):
        return sum(replace_norms(value, kinds, new) for value in config)
    return 0


def take_compilation(cfg: Config) -> dict | None:
    """Remove the field ``compile``, and return its arguments of ``torch.compile``; None to compile nothing.

    MMEngine would compile the whole training step, with the optimiser, in which PyTorch's compiler fails.

    Raises:
        ValueError: the field is neither a truth value nor a dict.
    """
    settings: Any = cfg.pop('compile', None)
    if settings is None or settings is False:
        return None
    if settings is not True and not isinstance(settings, dict):
        raise ValueError(f'compile={settings!r}: give True, False or a dict of arguments of torch.compile')
    settings = {} if settings is True else dict(settings)
    return None if settings.get('disable') else settings


def compile_backbone(model: nn.Module, settings: dict) -> None:
    """Compile the calls of the backbone in place; the names of the weights do not change.

    Data preprocessors, losses and heads work on lists of samples and are not compiled, nor is the copy of an
    ``EMAHook``.

    Args:
        model: the model, in a distributed wrapper or not.
        settings: arguments of ``torch.compile``.

    Raises:
        ValueError: the model has no backbone.
    """
    inner: Any = getattr(model, 'module', model)
    backbone = getattr(inner, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        raise ValueError(
            f'compile: {type(inner).__name__} has no backbone, the part that is compiled: set compile=False'
        )
    backbone.compile(**settings)
    remark('compile', 'the backbone is compiled; the first steps with new image sizes take longer')
