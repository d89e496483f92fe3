"""Backbones saved with their settings, and built again; see :class:`~resformer_mm.models.ResFormer`."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from mmengine.logging import print_log
from torch import Tensor

from resformer_mm.files import write_atomically
from resformer_mm.models.backbones.arguments import read_arch
from resformer_mm.models.backbones.resformer import ResFormer
from resformer_mm.models.backbones.saved import INITIALISATION, setting_names
from resformer_mm.text import shorten_list

from .architecture import infer_architecture
from .conversion import (
    TABLE,
    check_other_kind,
    detect_layout,
    rename_weights,
    with_backbone,
    write_checkpoint,
)
from .folders import WEIGHTS, config_file
from .loading import MERGER, load_weights
from .reading import CheckpointError, Weights, read_weights
from .safetensors_files import save_safetensors
from .saved_settings import encode_settings, read_settings
from .sources import locate

MAX_FRESH = 2**28  # numbers of a tensor that a file of settings may ask for without weights: 1 GiB
FILE_SUFFIXES = ('.safetensors', '.pth', '.pt')
Backbone = TypeVar('Backbone', bound=ResFormer)


def save_model(model: ResFormer, target: str | Path) -> Path:
    """Save a backbone: :meth:`~resformer_mm.models.backbones.saved.SavedBackbone.save_pretrained`."""
    target = Path(target)
    weights = target if target.suffix in FILE_SUFFIXES else target / WEIGHTS
    config = encode_settings(model)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    difference = list(_differences(_shapes(type(model), model.settings), state))
    if difference:
        raise CheckpointError(
            f'{type(model).__name__} cannot be saved with its settings, which do not describe it any more: '
            f'{shorten_list(difference)}. Save its state dict, or build a model with the settings it has'
        )
    try:
        if weights.suffix == '.safetensors':
            with write_atomically(weights) as partial:
                save_safetensors(state, partial)
        else:
            write_checkpoint(dict(state_dict=state), weights)
        with write_atomically(config_file(weights)) as partial:
            partial.write_text(config, encoding='utf-8')
    except OSError as error:
        raise CheckpointError(f'cannot write {weights}: {error.strerror or error}') from error
    return weights


def load_model(
    kind: type[Backbone],
    source: str | Path,
    settings: Mapping[str, Any],
    position: str | None = None,
    key: str | None = None,
    allow_missing: bool = False,
) -> Backbone:
    """Build a backbone: :meth:`~resformer_mm.models.backbones.saved.SavedBackbone.from_pretrained`."""
    if doubled := [name for name in INITIALISATION if name in settings]:
        raise ValueError(f'{doubled[0]} and the first argument both say where the weights come from')
    file = locate(source)
    weights = read_weights(file, key)
    saved = read_settings(config_file(file), kind, settings) if isinstance(file, Path) else None
    if saved is None:
        saved = _implied_settings(kind, weights, settings, position)
        shown = ', '.join(f'{name}={value!r}' for name, value in {**saved, **settings}.items())
        print_log(
            f'{weights.path}: {shown}; without a file of settings, windows and other settings without '
            'weights are not known',
            logger='current',
        )
    elif position is not None:
        raise ValueError(f'{file} has the settings of its model: leave out position={position!r}')
    else:
        excused = [f'{name}\\.' for name in settings] + ['.'] * allow_missing
        if 'num_frames' not in saved:
            excused.append('temporal_')  # of a class for clips that starts from images
        _check_settings(kind, saved, weights, config_file(Path(file)), '|'.join(excused) or '$^')
    model = kind(**{**saved, **settings})
    report = load_weights(model, weights, allow_missing)
    is_partial = bool(report.missing or report.unexpected)
    print_log(report.summary(), logger='current', level=logging.WARNING if is_partial else logging.INFO)
    return model.eval()


def _implied_settings(
    kind: type[ResFormer], weights: Weights, settings: Mapping[str, Any], position: str | None
) -> dict[str, Any]:
    """Return the settings that the shapes of a checkpoint imply."""
    source = str(weights.path)
    check_other_kind(weights.state, source)
    layout = detect_layout(weights.state, source)
    if layout == 'resformer_mm':
        state = {with_backbone(name): value for name, value in weights.state.items()}
        if position is not None:
            raise CheckpointError(f'{source} has the positions of a ResFormer: leave out {position=!r}')
    else:
        state = {name: value for name, (_, value) in rename_weights(weights, position)[0].items()}
    if position == 'learned' and TABLE not in state:
        raise CheckpointError(f"{source} has no position table: leave out position='learned'")
    arch = settings.get('arch')
    heads = None if arch is None else read_arch(arch, kind.arch_zoo)['num_heads']
    architecture = infer_architecture(state, source, heads, layout)
    implied = architecture.backbone_config()
    del implied['type']
    if any(name.startswith(MERGER) for name in state) and 'token_merger' not in settings:
        raise CheckpointError(
            f'{source} has a token merger, whose grid does not follow from its weights: give '
            "token_merger=dict(type='TokenMerger', grid=...), as in the training"
        )
    if layout == 'resformer_mm' and 'backbone.norm.weight' not in state:
        implied['final_norm'] = False
    frames = state.get('backbone.temporal_position.table')
    if frames is not None and 'num_frames' in setting_names(kind) and frames.ndim == 3:
        implied['num_frames'] = frames.shape[1]
    return implied


def _check_settings(
    kind: type[ResFormer], saved: Mapping[str, Any], weights: Weights, config: Path, excused: str
) -> None:
    """Check that saved settings describe the saved weights, before a model of any size is built.

    Args:
        kind: class to build.
        saved: its settings.
        weights: the weights.
        config: file of the settings, for messages.
        excused: pattern in names that the weights may lack.

    Raises:
        CheckpointError: they do not, or the constructor rejects them.
    """
    try:
        if 'arch' in saved:
            _check_arch(read_arch(saved['arch'], kind.arch_zoo), weights)
        shapes = _shapes(kind, saved)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a constructor raises for a setting of another type
        raise CheckpointError(
            f'{config} has settings that {kind.__name__} rejects: {error}. Correct them, or move the file '
            'away to have the settings that the shapes of the weights imply'
        ) from error
    wanted = {
        name: shape
        for name, shape in shapes.items()
        if name in weights.state or math.prod(shape) > MAX_FRESH or not re.search(excused, name)
    }
    found = {name: value for name, value in weights.state.items() if name in shapes}
    difference = list(_differences(wanted, found))
    if difference:
        raise CheckpointError(
            f'{config} does not describe {weights.path.name}: {shorten_list(difference)}. Use the settings '
            'that were saved with these weights'
        )


def _check_arch(dims: Mapping[str, int], weights: Weights) -> None:
    """Check that dimensions are those of the weights, so that no others are built.

    Raises:
        ValueError: they are not.
        CheckpointError: the weights are of no ResFormer.
    """
    state = {with_backbone(name): value for name, value in weights.state.items()}
    heads = dims['num_heads']
    if type(heads) is not int:
        raise ValueError(f'num_heads={heads!r} is not a whole number')
    are_implied = any('.local_position.conv.' in name for name in state)
    implied = infer_architecture(state, str(weights.path), None if are_implied else heads)
    for name, value in dims.items():
        if value != getattr(implied, name):
            raise ValueError(f'arch has {name}={value!r}, the weights have {getattr(implied, name)}')


def _shapes(kind: type[ResFormer], settings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by name, without allocating memory."""
    with torch.device('meta'):
        return {name: tuple(value.shape) for name, value in kind(**settings).state_dict().items()}


def _differences(wanted: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield what differs between the shapes of a model and tensors, in words."""
    for name in {**wanted, **state}:
        if name not in state:
            yield f'{name} is missing'
        elif name not in wanted:
            yield f'{name} is left over'
        elif wanted[name] != tuple(state[name].shape):
            yield f'{name} is {tuple(state[name].shape)} instead of {wanted[name]}'
