"""Runners of training and test, on one process or many, with or without a GPU."""

from __future__ import annotations

import atexit
import gc

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from resformer_mm.checkpoints.models import check_strict
from resformer_mm.checkpoints.reading import secure_runner_loading, weights_in
from resformer_mm.libraries import prepare_library


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config, of ``runner_type`` if it names one.

    Whatever checkpoint the runner loads, resumes from or initialises a model with is read once, and without
    running code that it holds; see :func:`~resformer_mm.checkpoints.reading.secure_runner_loading`. What
    cannot be read so raises a :class:`~resformer_mm.checkpoints.CheckpointError` there.

    Raises:
        ValueError: a launcher that needs GPUs on a machine without.
    """
    secure_runner_loading()
    prepare_library(cfg.get('default_scope'))
    if cfg.launcher != 'none':
        atexit.register(_leave_process_group)
        if get_device() == 'cpu':
            _set_up_cpu_processes(cfg)
    return Runner.from_cfg(cfg) if 'runner_type' not in cfg else RUNNERS.build(cfg)


def build_test_runner(cfg: Config) -> Runner:
    """Build the runner that tests ``cfg.load_from``, a file or a URL.

    The checkpoint is read once, by ``runner.test()`` or ``runner.load_or_resume()``. That raises a
    :class:`~resformer_mm.checkpoints.CheckpointError` unless the file gives every weight of the model and
    nothing else, where MMEngine would only log the difference.

    Raises:
        ValueError: as :func:`build_runner`.
    """
    runner = build_runner(cfg)
    runner.register_hook(_CheckWeights())
    return runner


class _CheckWeights(Hook):
    """Stops a test whose checkpoint does not fit the model, before anything is loaded."""

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights, and pass them on under the name that MMEngine looks for."""
        weights = weights_in(checkpoint, runner._load_from)
        check_strict(runner.model, weights)
        checkpoint['state_dict'] = weights.state


def _leave_process_group() -> None:
    """End the threads of the process group while Python is whole.

    A thread that gives a tensor back to a Python that is ending aborts the process. PyTorch ends the threads
    with the last reference to the group. Distributed models have one, and are cycles. Ours goes last, because
    only a group that Python lets go of waits for its threads without the interpreter's lock.
    """
    if torch.distributed.is_initialized():
        group = torch.distributed.group.WORLD
        torch.distributed.destroy_process_group()
        gc.collect()
        del group


def _set_up_cpu_processes(cfg: Config) -> None:
    """Start the gloo process group, and let the model wrapper keep the model where it is.

    MMEngine's own start selects a GPU per process and hands its number to the wrapper.
    """
    if cfg.launcher != 'pytorch':
        raise ValueError(f'--launcher {cfg.launcher} needs GPUs; without them use dist_train.sh (pytorch)')
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    print_log('No GPU: processes talk through gloo on the CPU', logger='current')
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
        **(cfg.get('model_wrapper_cfg') or {}),
    }
    if _replace_sync_bn(cfg.model):
        print_log('No GPU: SyncBN, which needs one, is BN here, with statistics of each process', 'current')


def _replace_sync_bn(config: object) -> int:
    """Make every synchronised batch norm of a model's config a plain one; return how many there were."""
    if isinstance(config, dict):
        found = config.get('type') == 'SyncBN'
        if found:
            config['type'] = 'BN'
        return found + sum(_replace_sync_bn(value) for value in config.values())
    if isinstance(config, (list, tuple)):
        return sum(_replace_sync_bn(value) for value in config)
    return 0
