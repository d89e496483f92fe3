"""From the config of a run to a runner, on one process or many, with or without a GPU."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from pathlib import Path

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from resformer_mm.checkpoints import read_weights
from resformer_mm.libraries import prepare_library


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config, of ``runner_type`` if it names one.

    Checkpoint files that the config names are first read with ``weights_only=True``, because MMEngine itself
    falls back to unpickling anything.

    Raises:
        CheckpointError: a checkpoint is corrupt, or needs more than tensors and plain containers.
        ValueError: a launcher that needs GPUs on a machine without.
    """
    for path in sorted(set(_checkpoint_files(cfg))):
        read_weights(path)
    prepare_library(cfg.get('default_scope'))
    if cfg.launcher != 'none':
        atexit.register(_leave_process_group)
        if get_device() == 'cpu':
            _set_up_cpu_processes(cfg)
    return Runner.from_cfg(cfg) if 'runner_type' not in cfg else RUNNERS.build(cfg)


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


def _checkpoint_files(cfg: Config) -> Iterator[str]:
    """Yield the local checkpoint files that a run will load."""
    if cfg.get('load_from'):
        yield from _local(cfg.load_from)
    pending = [cfg.model]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if item.get('type') == 'Pretrained' and item.get('checkpoint'):
                yield from _local(item['checkpoint'])
            pending.extend(item.values())
        elif isinstance(item, (list, tuple)):
            pending.extend(item)


def _local(path: str) -> Iterator[str]:
    if '://' not in path and Path(path).is_file():
        yield path
