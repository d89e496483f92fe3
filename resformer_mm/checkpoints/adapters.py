"""Files of trained adapters (LoRA): added to the weights, or apart from those they started from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from resformer_mm.fingerprint import fingerprint
from resformer_mm.models.layers import is_adapter, merge_state
from resformer_mm.text import shorten_list

from .conversion import check_other_kind, detect_layout, rename_weights, with_backbone, write_checkpoint
from .reading import CheckpointError, Weights, read_content, read_weights, weights_in

# Entry with what the file takes from the base, and its hash.
BASE = 'base'


def merge_file(source: str | Path, target: str | Path) -> int:
    """Write a checkpoint with its adapters added to the weights; return how many there were.

    The file is of the same model without ``backbone.lora``.

    Raises:
        CheckpointError: the source has no adapters, or the files cannot be read or written.
    """
    weights = _trained(source)
    try:
        merged = merge_state(weights.state)
    except ValueError as error:
        raise CheckpointError(f'{source}: {error}. Use the checkpoint of the training') from error
    write_checkpoint(_content(merged, weights), target)
    return sum(name.endswith('.lora_a') for name in weights.state)


def separate_file(source: str | Path, base: str | Path, target: str | Path) -> tuple[int, int]:
    """Write what a training with adapters has changed or added: adapters, head, what it trained besides.

    Args:
        source: checkpoint of the training.
        base: the weights that it started from, of any kind that starts a ResFormer.
        target: file to write.

    Returns:
        Numbers of the tensors that the file has, and of those that it takes from the base.

    Raises:
        CheckpointError: the source has no adapters, its frozen weights are not those of the base, or the
            files cannot be read or written.
    """
    weights, start = _trained(source), _base_state(base)
    equal = {
        name
        for name, value in weights.state.items()
        if name in start and start[name].shape == value.shape and torch.equal(start[name], value)
    }
    adapted = {f'{name.rpartition(".")[0]}.weight' for name in weights.state if is_adapter(name)}
    if other := sorted(name for name in adapted - equal if name in start or not adapted & equal):
        raise CheckpointError(
            f'{source} was not trained from {base}: they differ in {shorten_list(other)}, which training '
            'leaves unchanged. Give the weights of init_cfg or load_from'
        )
    kept = {name: value for name, value in weights.state.items() if name not in equal}
    shared = [name for name in weights.state if name in equal]
    content = _content(kept, weights)
    content[BASE] = dict(names=shared, sha256=_hash(shared, start))
    write_checkpoint(content, target)
    return len(kept), len(shared)


def join_file(source: str | Path, base: str | Path, target: str | Path) -> None:
    """Write the checkpoint that :func:`separate_file` has taken apart.

    Args:
        source: file of :func:`separate_file`.
        base: the weights that the training started from.
        target: file to write.

    Raises:
        CheckpointError: the source is another file, the base is not that of the training, or the files cannot
            be read or written.
    """
    content = read_content(source)
    recorded = content.get(BASE) if isinstance(content, dict) else None
    if not isinstance(recorded, dict) or not {'names', 'sha256'} <= set(recorded):
        raise CheckpointError(f'{source} is not a file of separate adapters: join needs one of `separate`')
    weights, start = weights_in(content, source), _base_state(base)
    lacking = [name for name in recorded['names'] if name not in start]
    if lacking or _hash(recorded['names'], start) != recorded['sha256']:
        reason = f'it lacks {shorten_list(lacking)}' if lacking else 'its weights are others'
        raise CheckpointError(
            f'{base} is not what the adapters of {source} were trained from: {reason}. Give the weights that '
            'the training started from'
        )
    state = {**{name: start[name] for name in recorded['names']}, **weights.state}
    write_checkpoint(_content(state, weights), target)


def _trained(source: str | Path) -> Weights:
    weights = read_weights(source)
    if not any(map(is_adapter, weights.state)):
        raise CheckpointError(f'{source} has no adapters: it was not trained with backbone.lora')
    return weights


def _base_state(base: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a file under the names that they have in a model."""
    weights = read_weights(base)
    check_other_kind(weights.state, str(base))
    if detect_layout(weights.state, str(base)) == 'resformer_mm':
        return {with_backbone(name): value for name, value in weights.state.items()}
    return {name: value for name, (_, value) in rename_weights(weights)[0].items()}


def _hash(names: list[str], state: dict[str, Tensor]) -> str:
    return fingerprint('', {name: state[name] for name in sorted(names)})


def _content(state: dict[str, Tensor], weights: Weights) -> dict[str, object]:
    # Cloned, because a view would be saved with all of its storage.
    compact = {name: value.clone() for name, value in state.items()}
    return dict(state_dict=compact, meta=dict(dataset_meta=weights.dataset_meta))
