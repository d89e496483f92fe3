"""Choice of the inferencer for a config."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config

from resformer_mm.config.files import enter_scope, read_config
from resformer_mm.inference.base import ResolutionInferencer
from resformer_mm.libraries import import_name, task_of


def make_inferencer(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    cfg_options: dict | None = None,
    show_progress: bool = False,
    dtype: str | None = None,
) -> ResolutionInferencer:
    """Return the inferencer for a config; the class of its model determines the task.

    The arguments are those of :class:`ResolutionInferencer`.

    Raises:
        FileNotFoundError: there is no such config.
        CheckpointError: the checkpoint cannot be read safely, or does not fit the model.
        ImportError: the library of the model is missing.
        ValueError: no task has models of that class.
    """
    cfg = read_config(config, cfg_options)
    enter_scope(cfg)
    inferencer = import_name(task_of(cfg).inferencer)
    return inferencer(cfg, checkpoint, device, show_progress=show_progress, dtype=dtype)
