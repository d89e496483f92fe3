"""Loading of any supported checkpoint into an existing model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from resformer_mm.models.backbones import ResFormer, VideoResFormer
from resformer_mm.models.layers import LearnedPositionEmbedding, is_adapter, merge_state
from resformer_mm.strategies import whole_state
from resformer_mm.text import shorten_list

from .conversion import check_other_kind, detect_layout, rename_weights, with_backbone
from .reading import CheckpointError, Weights, read_weights
from .report import OWN_START, Report, compare

MERGER = 'backbone.token_merger.'  # start of the names of parameters that not every backbone has
COPIES = ('target_net.', 'momentum_encoder.')  # averages of the weights inside BYOL and MoCo v3 of mmpretrain
TEMPORAL = '.temporal_'  # in the names of parameters that only a backbone for clips has


def load_pretrained(
    model: nn.Module,
    path: str | Path,
    key: str | None = None,
    allow_missing: bool = False,
    allow_unexpected: bool = False,
) -> Report:
    """Load a checkpoint into a ResFormer, or into the backbone and head of a model that has one.

    Accepts checkpoints of this project, converted or trained, of a classifier or of a backbone alone, and
    published ones of ResFormer, DeiT and ViT. What the model cannot hold is left out and reported: the head
    for a backbone alone, the class token for a model without one, the position table of a DeiT for GPE. A
    learned position table is resized to the grid of the model, a temporal one interpolated to its number of
    frames. A backbone for clips accepts the weights of one for images; its temporal parts keep their
    initialisation, with which it processes each frame as the image model does.

    Args:
        model: a :class:`ResFormer`, or a module with one as ``backbone`` and perhaps a ``head.fc``.
        path: the checkpoint file.
        key: entry of the file that holds the weights; see :func:`read_weights`.
        allow_missing: keep the initialisation of what the checkpoint lacks.
        allow_unexpected: drop what the model does not have.

    Raises:
        TypeError: the model has no ResFormer.
        CheckpointError: the file cannot be read, or does not fit.
    """
    _backbone_of(model)  # rejects the model before the file is read
    return load_weights(model, read_weights(path, key), allow_missing, allow_unexpected)


def load_weights(
    model: nn.Module, weights: Weights, allow_missing: bool = False, allow_unexpected: bool = False
) -> Report:
    """Load the weights of a checkpoint that was already read, as :func:`load_pretrained` does."""
    backbone = _backbone_of(model)
    state, report = _project_state(weights, backbone)

    parts: dict[str, nn.Module] = {'backbone.': backbone}
    head = None if model is backbone else _head_of(model)
    if head is not None:
        parts['head.fc.'] = head
    wanted = {
        prefix + name: tuple(value.shape)
        for prefix, part in parts.items()
        for name, value in part.state_dict().items()
    }
    compare(
        report,
        {name: (origin, tuple(value.shape)) for name, (origin, value) in state.items()},
        wanted,
    )
    _explain(report, state, backbone, head)
    report.check(allow_missing, allow_unexpected)
    check_numbers(weights)
    for prefix, part in parts.items():
        part.load_state_dict(
            {name.removeprefix(prefix): state[name][1] for name in report.matched if name.startswith(prefix)},
            strict=False,
        )
    return report


def starting_weights(model: nn.Module, weights: Weights) -> tuple[dict[str, Tensor], Report]:
    """Return the state of a model of any task that starts from a checkpoint, and a report.

    The checkpoint may be of the model, of another task, or of anything that :func:`load_pretrained` accepts.
    What it lacks, and heads and necks of another shape, keep their initialisation.

    Raises:
        CheckpointError: no tensor fits, a tensor of the backbone has another shape, or one is not a number.
    """
    whole = whole_state(model)
    model = unwrap(model)
    own = {name: value.detach() for name, value in (whole or model.state_dict()).items()}
    backbone = getattr(model, 'backbone', None)
    if isinstance(backbone, ResFormer):
        state, report = _project_state(weights, backbone)
    else:
        state = {name: (name, value) for name, value in weights.state.items()}
        report = Report(str(weights.path), 'resformer_mm')
    wanted = {name: tuple(value.shape) for name, value in own.items()}
    for name, (_, value) in [*state.items()]:
        is_fixed = isinstance(backbone, ResFormer) and name.startswith('backbone.')
        if name in wanted and wanted[name] != value.shape and not is_fixed:
            del state[name]
            report.reasons[name] = f'{tuple(value.shape)} in the file, {wanted[name]} in the model'
    compare(report, {name: (origin, tuple(value.shape)) for name, (origin, value) in state.items()}, wanted)
    if isinstance(backbone, ResFormer):
        _explain(report, state, backbone, _head_of(model))
    report.check(allow_missing=True, allow_unexpected=True)
    check_numbers(weights)
    return {**own, **{name: state[name][1] for name in report.matched}}, report


def check_numbers(weights: Weights) -> None:
    """Check that all weights are numbers.

    With others a detector finds nothing and any other model predicts nonsense; neither fails.

    Raises:
        CheckpointError: a weight is NaN.
    """
    if broken := [name for name, value in weights.state.items() if value.isnan().any()]:
        raise CheckpointError(
            f'{weights.path} has weights that are not numbers (NaN): {shorten_list(broken)}. Use an earlier '
            'checkpoint of the training'
        )


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside the wrapper of distributed training or of test-time augmentation."""
    while isinstance(inner := getattr(model, 'module', None), nn.Module):
        model = inner
    return model


def _backbone_of(model: nn.Module) -> ResFormer:
    backbone = model if isinstance(model, ResFormer) else getattr(model, 'backbone', None)
    if not isinstance(backbone, ResFormer):
        raise TypeError(f'{type(model).__name__} is not a ResFormer, nor does it have one as its backbone')
    return backbone


def _head_of(model: nn.Module) -> nn.Module | None:
    """Return the linear layer of a classifier; None for another model, and for an identity in its place."""
    head = getattr(getattr(model, 'head', None), 'fc', None)
    return None if isinstance(head, nn.Identity) else head


def _project_state(weights: Weights, backbone: ResFormer) -> tuple[dict, Report]:
    """Return name of this project -> (name in the file, tensor), and a report to fill."""
    check_other_kind(weights.state, str(weights.path))
    layout = detect_layout(weights.state, str(weights.path))
    if layout == 'resformer_mm':
        weights = fitting_adapters(weights, backbone)
        state = {with_backbone(name): (name, value) for name, value in weights.state.items()}
        return state, Report(str(weights.path), layout, notes=list(weights.notes))
    position = None
    if layout != 'resformer' and isinstance(backbone.global_position, LearnedPositionEmbedding):
        position = 'learned'
    return rename_weights(weights, position, keep_registers=backbone.num_registers > 0)


def fitting_adapters(weights: Weights, model: nn.Module) -> Weights:
    """Return weights with the adapters added to them if they have some and the backbone of a model has none.

    Raises:
        CheckpointError: an adapter is incomplete.
    """
    model = unwrap(model)
    backbone = model if isinstance(model, ResFormer) else getattr(model, 'backbone', None)
    if not isinstance(backbone, ResFormer) or backbone.lora is not None:
        return weights
    if not any(map(is_adapter, weights.state)):
        return weights
    try:
        state = merge_state(weights.state)
    except ValueError as error:
        raise CheckpointError(f'{weights.path}: {error}. Use the checkpoint of the training') from error
    return replace(weights, state=state, notes=[*weights.notes, 'adapters (LoRA) added to the weights'])


def _explain(report: Report, state: dict, backbone: ResFormer, head: nn.Module | None) -> None:
    """Give reasons for names that are missing or unexpected because of the kind of model or checkpoint."""
    has_time = any(TEMPORAL in name for name in state)
    for name, (origin, _) in state.items():
        if name.startswith('head.') and head is None:
            report.reasons[origin] = 'left out, the model has no such head'
        elif name.endswith(('backbone.cls_token', '.cls_token_table')) and not backbone.with_cls_token:
            report.reasons[origin] = 'left out, the model has no class token'
        elif _is_other_part(name):
            report.reasons[origin] = 'left out, it belongs to the head or neck of another model'
        elif name.startswith(COPIES):
            report.reasons[origin] = 'left out, it belongs to the copy that a pre-training learned from'
        elif TEMPORAL in name and not isinstance(backbone, VideoResFormer):
            report.reasons[origin] = 'left out, images have no time'
        elif name.startswith('backbone.norm.') and backbone.norm is None:
            report.reasons[origin] = 'left out, the model has no final norm'
    report.explain_missing()
    for name in report.missing:
        if name in report.reasons:
            continue
        if is_adapter(name) and not any(map(is_adapter, state)):
            report.reasons[name] = f'{OWN_START}, which changes nothing'
        elif name.startswith('head.') and not any(key.startswith('head.') for key in state):
            report.reasons[name] = f'{OWN_START}, the file has no head'
        elif TEMPORAL in name and not has_time:
            report.reasons[name] = f'{OWN_START}, images have no time'
        elif name.startswith(MERGER) and not any(key.startswith(MERGER) for key in state):
            report.reasons[name] = f'{OWN_START}, the file has no token merger: train it'


def _is_other_part(name: str) -> bool:
    """Whether a parameter belongs to the neck or a head of a detector, segmentor or recognizer."""
    part = name.partition('.')[0]
    return part == 'neck' or part.endswith('_head')
