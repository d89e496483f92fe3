"""Measurements of a config on this machine."""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from copy import deepcopy

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner

from resformer_mm.apis.settling import settle_loaders
from resformer_mm.compat.synchronizing import synchronize
from resformer_mm.progress import track


def measure_loader(cfg: Config, images: int) -> float:
    """Return the milliseconds of processor time that loading a training image takes, in one thread.

    The pipeline of the config loads images spread over the data set, after a few that are not counted.

    Args:
        cfg: config of a training whose data are there.
        images: number of images.
    """
    dataset = DATASETS.build(deepcopy(cfg.train_dataloader.dataset))
    warm, threads = min(4, len(dataset)), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for index in range(warm):
            dataset[index]
        seconds = 0.0
        with closing(track(range(images), 'images')) as numbers:
            for number in numbers:
                start = time.process_time()
                dataset[number * len(dataset) // images % len(dataset)]
                seconds += time.process_time() - start
    finally:
        torch.set_num_threads(threads)
    return 1000 * seconds / images


def measure_training(cfg: Config, steps: int) -> float:
    """Return the images per second that this device trains on, of one batch that is loaded beforehand.

    Args:
        cfg: config of a training whose data are there.
        steps: number of steps, after two that are not counted; their median counts.
    """
    cfg = deepcopy(cfg)
    cfg.train_dataloader.num_workers = 0
    settle_loaders(cfg)
    device = get_device()
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    settings = cfg.model
    if cfg.get('data_preprocessor') is not None:
        settings.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(settings).to(device).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    times = []
    with closing(track(range(steps + 2), 'steps')) as numbers:
        for _ in numbers:
            start = time.perf_counter()
            model.train_step(batch, wrapper)
            synchronize(device)
            times.append(time.perf_counter() - start)
    return len(batch['data_samples']) / statistics.median(times[2:])
