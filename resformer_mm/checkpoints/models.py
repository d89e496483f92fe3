"""Models built from a config, with the weights of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS
from torch import nn

from resformer_mm.config.files import enter_scope, read_config
from resformer_mm.models import ResFormer
from resformer_mm.models.layers import LearnedPositionEmbedding, is_adapter
from resformer_mm.text import shorten_list

from . import CheckpointError, Report, Weights, read_weights
from .conversion import detect_layout
from .layouts import find_layout
from .loading import check_numbers, fitting_adapters, load_weights, unwrap
from .report import compare

TRAIN_FROM_IT = (
    "train it from these weights first, with init_cfg=dict(type='resformer_mm.PretrainedResFormer', "
    'checkpoint=...) of the backbone'
)


def load_model(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    cfg_options: dict | None = None,
) -> nn.Module:
    """Build the model of a config of any task, in evaluation mode, with the weights of a checkpoint.

    The model has its config as ``cfg``, and as ``dataset_meta`` what the checkpoint records of its data set
    (``classes``, ...). A model with a ResFormer accepts published checkpoints unchanged.

    Args:
        config: config file, or the config itself.
        checkpoint: checkpoint file; None keeps the initial weights.
        device: device of the model; by default a GPU if there is one.
        cfg_options: overrides of the config, ``{'model.backbone.arch': 'tiny'}``.

    Raises:
        FileNotFoundError: there is no such config.
        CheckpointError: the checkpoint cannot be read safely, or does not fit the model.
        ValueError: the config has no model, or a setting that the model rejects.
    """
    cfg = read_config(config, cfg_options)
    enter_scope(cfg)
    return build_model(cfg, checkpoint, device)


def build_model(
    cfg: Config, checkpoint: str | Path | None = None, device: str | torch.device | None = None
) -> nn.Module:
    """Build the model of a config that was already read, as :func:`load_model` does.

    The default scope must be that of the config; see :func:`resformer_mm.config.files.enter_scope`.
    """
    # The data preprocessor may be given next to the model, where MMEngine's runner looks for it too.
    settings = dict(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        settings.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(settings)
    model.cfg, model.dataset_meta = cfg, {}
    if checkpoint is not None:
        model.dataset_meta = load_strict(model, checkpoint)
    return model.to(device or get_device()).eval()


def load_strict(model: nn.Module, checkpoint: str | Path) -> dict:
    """Load a checkpoint with exactly the weights of a model; return what it records of its data set.

    Raises:
        CheckpointError: a weight is missing, left over or of another shape; nothing is dropped silently.
    """
    weights = fitting_adapters(read_weights(checkpoint), model)
    if _is_foreign(weights) and isinstance(getattr(model, 'backbone', None), ResFormer):
        report = load_weights(model, weights)
        if report.missing:
            raise CheckpointError(
                f'{weights.path} ({report.layout}) lacks {shorten_list(report.missing)}, without which the '
                f'model predicts nonsense: {TRAIN_FROM_IT}'
            )
    else:
        check_strict(model, weights)
        model.load_state_dict(weights.state)
    return weights.dataset_meta


def check_strict(model: nn.Module, weights: Weights) -> None:
    """Check that a checkpoint under the names of the model has every weight, and nothing else.

    MMEngine's own loading only logs what does not fit.

    Raises:
        CheckpointError: a weight is missing, left over, of another shape or not a number.
    """
    model = unwrap(model)
    report = Report(str(weights.path), 'resformer_mm')
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    compare(report, {name: (name, tuple(value.shape)) for name, value in weights.state.items()}, wanted)
    faults = [f'it lacks {shorten_list(report.missing)}'] if report.missing else []
    if report.unexpected:
        faults.append(f'the model has no place for {shorten_list(report.unexpected)}')
    if faults:
        remedy = 'Use the checkpoint that this config trained, or the config that trained this checkpoint'
        if report.missing and any(map(is_adapter, weights.state)):
            remedy += '; adapters alone are joined with their base by tools/model_converters/lora_weights.py'
        backbone = getattr(model, 'backbone', None)
        if _is_foreign(weights) and isinstance(backbone, ResFormer):
            remedy = _conversion(weights, backbone)
        raise CheckpointError(
            f'{weights.path} does not fit the model of the config: {"; ".join(faults)}. {remedy}'
        )
    check_numbers(weights)


def _conversion(weights: Weights, backbone: ResFormer) -> str:
    """Return how a ResFormer uses a checkpoint with the names of another library."""
    tool = 'tools/model_converters/resformer_official.py'
    layout = detect_layout(weights.state, str(weights.path))
    if layout == 'resformer':
        return f'Convert it first with {tool}'
    if isinstance(backbone.global_position, LearnedPositionEmbedding):
        return f'Convert it first with {tool} --position learned'
    return f'It is of a ViT ({layout}) without GPE and LPE: {TRAIN_FROM_IT}'


def _is_foreign(weights: Weights) -> bool:
    """Whether a checkpoint is of a ResFormer, DeiT or ViT under other names than this project's."""
    source = str(weights.path)
    has_vit = find_layout(weights.state, source) is not None
    return has_vit and detect_layout(weights.state, source) != 'resformer_mm'
