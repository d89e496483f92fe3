"""From a config and a checkpoint to a model that is ready to predict."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from resformer_mm.checkpoints import CheckpointError, Report, Weights, load_pretrained, read_weights
from resformer_mm.checkpoints.official import detect_layout
from resformer_mm.checkpoints.report import compare, some_names
from resformer_mm.compat import prepare_mmaction
from resformer_mm.models import ResFormer


def read_config(config: str | Path | Config, cfg_options: dict | None = None) -> Config:
    """Return the config of a file, or a copy of a config, with overrides.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no valid config, the overrides do not fit it, or it has no ``model``.
    """
    if isinstance(config, Config):
        cfg, source = config.copy(), config.filename or 'the config'
    else:
        if not Path(config).is_file():
            raise FileNotFoundError(f'there is no config {config}')
        source = config
        try:
            cfg = Config.fromfile(config)
        except Exception as error:  # a config is code: it can fail in any way
            raise ValueError(f'{config} is no valid config: {type(error).__name__}: {error}') from error
    if cfg_options:
        try:
            cfg.merge_from_dict(cfg_options)
        except (KeyError, TypeError, IndexError, AssertionError) as error:
            raise ValueError(f'--cfg-options do not fit {source}: {type(error).__name__}: {error}') from error
    if cfg.get('model') is None:
        raise ValueError(f'{source} has no `model`: give the config of a model, as tools/train.py takes it')
    return cfg


def enter_scope(cfg: Config) -> None:
    """Make the library that the config names by ``default_scope`` the one where names are looked up first."""
    scope = cfg.get('default_scope', 'mmengine')
    if scope == 'mmaction':
        prepare_mmaction()
    init_default_scope(scope)


def load_model(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    cfg_options: dict | None = None,
) -> nn.Module:
    """Build the model of a config of any task, in evaluation mode, with the weights of a checkpoint.

    The model carries its config as ``cfg`` and what the checkpoint says of its data set (``classes``, ...) as
    ``dataset_meta``. A published checkpoint may be given as it is, to a model that has a ResFormer.

    Args:
        config: config file, or the config itself.
        checkpoint: checkpoint file; None leaves the initialisation, for figures that do not depend on it.
        device: where the model goes; by default a GPU if there is one.
        cfg_options: overrides of the config, ``{'model.backbone.arch': 'tiny'}``.

    Raises:
        FileNotFoundError: there is no such config.
        CheckpointError: the checkpoint cannot be read safely, or does not fit the model.
        ValueError: the config has no model, or a setting that the model refuses.
    """
    cfg = read_config(config, cfg_options)
    enter_scope(cfg)
    # The data preprocessor may stand beside the model, where MMEngine's runner looks for it too.
    settings = dict(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        settings.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(settings)
    model.cfg, model.dataset_meta = cfg, {}
    if checkpoint is not None:
        model.dataset_meta = load_whole(model, checkpoint)
    return model.to(device or get_device()).eval()


def load_whole(model: nn.Module, checkpoint: str | Path) -> dict:
    """Load a checkpoint that gives every weight of a model, and return what it says of its data set.

    Raises:
        CheckpointError: a weight is missing, left over or of another shape; nothing is dropped silently.
    """
    weights = read_weights(checkpoint)
    if _is_foreign(weights) and isinstance(getattr(model, 'backbone', None), ResFormer):
        load_pretrained(model, checkpoint)
    else:
        check_whole(model, weights)
        model.load_state_dict(weights.state)
    return weights.dataset_meta


def check_whole(model: nn.Module, weights: Weights) -> None:
    """Check that a checkpoint in the names of the model gives every weight, and nothing else.

    MMEngine's own loading only logs what does not fit.

    Raises:
        CheckpointError: a weight is missing, left over or of another shape.
    """
    while isinstance(getattr(model, 'module', None), nn.Module):
        model = model.module  # of several processes, or of test-time augmentation
    report = Report(str(weights.path), 'resformer_mm')
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    compare(report, {name: (name, tuple(value.shape)) for name, value in weights.state.items()}, wanted)
    faults = [f'it lacks {some_names(report.missing)}'] if report.missing else []
    if report.unexpected:
        faults.append(f'the model has no place for {some_names(report.unexpected)}')
    if faults:
        remedy = 'Give the checkpoint that this config trained, or the config that trained this checkpoint'
        if _is_foreign(weights):
            remedy = 'Convert it first with tools/model_converters/resformer_official.py'
        raise CheckpointError(
            f'{weights.path} does not fit the model of the config: {"; ".join(faults)}. {remedy}'
        )


def _is_foreign(weights: Weights) -> bool:
    return 'blocks.0.attn.qkv.weight' in weights.state and detect_layout(weights.state) != 'resformer_mm'
