"""The inferencer that a config asks for."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config

from resformer_mm.configuration import read_config

from .base import ResolutionInferencer
from .classification import ClassificationInferencer
from .detection import DetectionInferencer
from .segmentation import SegmentationInferencer
from .video import VideoInferencer

INFERENCERS = {
    'mmpretrain': ClassificationInferencer,
    'mmseg': SegmentationInferencer,
    'mmdet': DetectionInferencer,
    'mmaction': VideoInferencer,
}


def make_inferencer(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    cfg_options: dict | None = None,
    show_progress: bool = False,
) -> ResolutionInferencer:
    """Return the inferencer for the task of a config, which its ``default_scope`` tells.

    The arguments are those of :class:`ResolutionInferencer`.

    Raises:
        FileNotFoundError: there is no such config.
        CheckpointError: the checkpoint cannot be read safely, or does not fit the model.
        ValueError: the config is that of no task that is known here.
    """
    cfg = read_config(config, cfg_options)
    scope = cfg.get('default_scope')
    if scope not in INFERENCERS:
        raise ValueError(
            f'{cfg.filename or "the config"} has default_scope={scope!r}, which tells no task: '
            f'it must be one of {", ".join(INFERENCERS)}'
        )
    return INFERENCERS[scope](cfg, checkpoint, device, show_progress=show_progress)
