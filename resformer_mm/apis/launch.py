"""From the config of a run to a runner, on one process or many, with or without a GPU."""

from __future__ import annotations

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from resformer_mm.compat import prepare_mmaction


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config, of ``runner_type`` if it names one.

    Raises:
        ValueError: a launcher that needs GPUs on a machine without.
    """
    if cfg.get('default_scope') == 'mmaction':
        prepare_mmaction()
    if cfg.launcher != 'none' and get_device() == 'cpu':
        _set_up_cpu_processes(cfg)
    return Runner.from_cfg(cfg) if 'runner_type' not in cfg else RUNNERS.build(cfg)


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
