"""Runners of training and test, on one process or many, with or without a GPU."""

from __future__ import annotations

import atexit
import gc
from datetime import timedelta
from typing import Any

import torch.distributed
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.dist import init_dist, is_distributed
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner

from resformer_mm.checkpoints.initialisation import is_of_whole_file
from resformer_mm.checkpoints.loading import unwrap
from resformer_mm.checkpoints.reading import secure_runner_loading
from resformer_mm.compat.flexible_positions import keep_positions
from resformer_mm.compat.lazy_configs import make_writable
from resformer_mm.compat.metrics_file import write_metrics_once
from resformer_mm.compat.scalars_file import write_valid_scalars
from resformer_mm.compat.wrapper_type import name_wrapper_type
from resformer_mm.config.files import enter_scope
from resformer_mm.config.inference_dtype import FIELD
from resformer_mm.datasets.image_files import lift_pixel_limit
from resformer_mm.engine import CheckNumClassesHook, CheckSplitsHook, InvalidLossHook
from resformer_mm.engine.failures import NameFilesHook
from resformer_mm.engine.inference_dtype import set_inference_dtype
from resformer_mm.engine.unannotated import UnannotatedTestHook
from resformer_mm.libraries import hook_of_task, settle_config
from resformer_mm.measured import is_number
from resformer_mm.models.backbones import ResFormer
from resformer_mm.processes import start_watch, stop_watch
from resformer_mm.repairs import set_strict, share_with_workers, write_earlier_warnings
from resformer_mm.resuming import (
    ExactResumeHook,
    MakeUpValidationHook,
    PreemptionHook,
    RegroupHook,
    agree_on_start,
    save_whole_files,
)
from resformer_mm.strategies import check_launched, settle_strategy
from resformer_mm.tracking import ResolutionCurveHook, settle_trackers, tracker_errors

from .launchers import check_launcher
from .settling import (
    compile_backbone,
    replace_norms,
    settle_checkpoints,
    settle_loaders,
    settle_precision,
    take_compilation,
    take_inference_dtype,
)
from .weight_hooks import CheckWeightsHook, StartingWeightsHook

# Hooks that every run gets, unless `default_hooks` has None under the name.
RUN_HOOKS = {
    CheckSplitsHook: 'splits',
    CheckNumClassesHook: 'num_classes',
    InvalidLossHook: 'invalid_loss',
    ExactResumeHook: 'exact_resume',
    PreemptionHook: 'preemption',
    ResolutionCurveHook: 'resolution_curve',
    RegroupHook: 'regroup',
}
# MMEngine accepts None for these names alone.
MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')

# Seconds that processes wait for one that does not take part in an exchange, unless
# `env_cfg.dist_cfg.timeout` is set. PyTorch has 600 for NCCL, which is less than some metrics need, for which
# the others wait.
TIMEOUT = 1800


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config, of its ``runner_type`` if it has one.

    Every checkpoint that the runner loads, resumes from or initialises a model with is read once, without
    executing code in it; see :func:`~resformer_mm.checkpoints.reading.secure_runner_loading`. The runner
    raises a :class:`~resformer_mm.checkpoints.CheckpointError` for files that cannot be read this way.

    Raises:
        ImportError: the library of the config is missing, or needs operators of mmcv that are missing.
        ValueError: the launcher needs GPUs, but there are none.
    """
    runner = _build(cfg)
    runner.register_hook(StartingWeightsHook())
    _load_initial_weights(runner)
    return runner


def _load_initial_weights(runner: Runner) -> None:
    """Take the checkpoint of 'Pretrained' of a whole model as `load_from`, which tells what does not fit."""
    model: Any = unwrap(runner.model)
    settings = getattr(model, 'init_cfg', None)
    if (
        isinstance(settings, dict)
        and is_of_whole_file(settings)
        and isinstance(getattr(model, 'backbone', None), ResFormer)
        and not (runner._load_from or runner._resume)
    ):
        model.init_cfg, runner._load_from = None, settings['checkpoint']


def _build(cfg: Config) -> Runner:
    secure_runner_loading()
    lift_pixel_limit()
    enter_scope(cfg)
    settle_config(cfg)
    settle_trackers(cfg)
    make_writable(cfg)
    settle_loaders(cfg)
    settle_precision(cfg)
    settle_checkpoints(cfg)
    settle_strategy(cfg)
    check_launched(cfg)
    compilation = take_compilation(cfg)
    start_processes(cfg)
    set_strict(bool(cfg.get('strict_data', False)))
    left_out = _take_left_out(cfg)
    with tracker_errors():
        runner = Runner.from_cfg(cfg) if 'runner_type' not in cfg else RUNNERS.build(cfg)
    if isinstance(runner, FlexibleRunner):  # which would build its model when the training begins
        runner.model = runner.strategy.build_model(runner.model)
        keep_positions(runner)
    write_earlier_warnings(runner.logger)
    share_with_workers()
    for kind, name in RUN_HOOKS.items():
        if name not in left_out and not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(kind())
    if compilation is not None:
        compile_backbone(runner.model, compilation)
    if isinstance(runner, (Runner, FlexibleRunner)):
        save_whole_files(runner)
        for hook in [hook for hook in runner.hooks if isinstance(hook, ExactResumeHook)]:
            hook.attach(runner)
            runner.register_hook(MakeUpValidationHook(hook))
    write_metrics_once(runner)
    write_valid_scalars(runner)
    runner.register_hook(NameFilesHook())
    if (hook := hook_of_task(cfg)) is not None:
        runner.register_hook(hook)
    return runner


def _take_left_out(cfg: Config) -> set[str]:
    """Return the names of the hooks that a config sets to None.

    They are removed from the config, but for those that MMEngine would add again.
    """
    hooks = cfg.get('default_hooks') or {}
    left_out = {name for name, hook in hooks.items() if hook is None}
    for name in left_out.difference(MMENGINE_HOOKS):
        del hooks[name]
    return left_out


def start_processes(cfg: Config) -> None:
    """Connect the processes of a launcher, unless they are; without a launcher, nothing happens.

    Raises:
        ValueError: the launcher needs GPUs, but there are none, or it has not started this process; or
            ``env_cfg.dist_cfg.timeout`` is not a positive number.
    """
    if cfg.launcher == 'none':
        return
    if not is_distributed():
        check_launcher(cfg.launcher)
    atexit.register(_leave_process_group)
    settings = _settle_timeout(cfg)
    if get_device() == 'cpu':
        _set_up_cpu_processes(cfg, settings['timeout'])
    elif not is_distributed():
        init_dist(cfg.launcher, **settings)
    start_watch()
    name_wrapper_type(cfg)


def _settle_timeout(cfg: Config) -> dict:
    """Return the settings of the connection, after setting what is missing."""
    if cfg.get('env_cfg') is None:
        cfg.env_cfg = {}
    settings = cfg.env_cfg.setdefault('dist_cfg', dict(backend='nccl'))
    timeout = settings.setdefault('timeout', TIMEOUT)
    if not is_number(timeout) or timeout <= 0:
        raise ValueError(f'env_cfg.dist_cfg.timeout = {timeout!r} must be a positive number of seconds')
    return settings


def build_train_runner(cfg: Config) -> Runner:
    """Build the runner of a training that a launcher may have started before; see :func:`build_runner`.

    Raises:
        CheckpointError: the checkpoint to go on from cannot be used.
        FileNotFoundError: it is not on the machine of this process.
    """
    start_processes(cfg)
    agree_on_start(cfg)
    return build_runner(cfg)


def build_test_runner(cfg: Config) -> Runner:
    """Build the runner that tests ``cfg.load_from``, a file or a URL.

    The checkpoint is read once, by ``runner.test()`` or ``runner.load_or_resume()``. That raises a
    :class:`~resformer_mm.checkpoints.CheckpointError` unless the file has every weight of the model and
    nothing else; MMEngine would only log the difference. The model predicts in ``cfg.inference_dtype``.

    Raises:
        ValueError: see :func:`build_runner`; or ``inference_dtype`` is not a type of inference.
    """
    dtype = take_inference_dtype(cfg)
    runner = _build(cfg)
    runner.cfg[FIELD] = set_inference_dtype(runner.model, dtype)
    runner.register_hook(CheckWeightsHook())
    runner.register_hook(UnannotatedTestHook())
    return runner


def _leave_process_group() -> None:
    """End the threads of the process group before the interpreter shuts down.

    A thread that releases a tensor during interpreter shutdown aborts the process. PyTorch ends the threads
    when the last reference to the group is deleted. Distributed models hold references and are in reference
    cycles, hence the garbage collection. The last reference must be one of Python: only then does the
    destructor wait for the threads without holding the interpreter lock.
    """
    stop_watch()
    if torch.distributed.is_initialized():
        group = torch.distributed.group.WORLD
        torch.distributed.destroy_process_group()
        gc.collect()
        del group


def _set_up_cpu_processes(cfg: Config, timeout: float) -> None:
    """Start the gloo process group, and make the model wrapper leave the model on the CPU.

    MMEngine would select a GPU per process and pass its number to the wrapper.
    """
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=timeout))
        print_log('No GPU: processes communicate through gloo on the CPU', logger='current')
    if cfg.get('strategy') is None:
        wrapper = ConfigDict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
        wrapper.update(cfg.get('model_wrapper_cfg') or {})
        cfg.model_wrapper_cfg = wrapper
    if replace_norms(cfg.model, ('SyncBN', 'SyncBatchNorm', 'MMSyncBN'), 'BN'):
        print_log('No GPU: SyncBN is replaced by BN, with separate statistics in each process', 'current')
