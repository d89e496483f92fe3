"""Publishing of checkpoints without the state of their training."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from resformer_mm.files import write_atomically
from resformer_mm.text import shorten_list

from .reading import CheckpointError, read_content, weights_in

DEFAULT_KEYS = ('meta', 'state_dict')
NOT_PLAIN = 'more than tensors, numbers, texts and plain containers'
# The notes of a training run that identify the model; not the config with its paths, seeds and times.
META_FIELDS = ('dataset_meta', 'epoch', 'iter', 'experiment_name', 'mmengine_version')


@dataclass
class Publication:
    """A published checkpoint.

    Attributes:
        path: the file, ``NAME-<first 8 digits of its SHA-256>.pth``.
        kept: entries of the training checkpoint that it contains, with their content in words.
        dropped: entries that it does not contain, with the reason.
    """

    path: Path
    kept: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f'kept {name}: {what}' for name, what in self.kept.items()]
        lines += [f'dropped {name}: {reason}' for name, reason in self.dropped.items()]
        return '\n'.join([*lines, f'written: {self.path}'])


def publish_checkpoint(
    source: str | Path, target: str | Path, save_keys: Sequence[str] = DEFAULT_KEYS
) -> Publication:
    """Write what others need of a checkpoint to a file whose name contains its hash.

    The file can be read with ``torch.load(..., weights_only=True)`` alone; the same checkpoint always gives
    the same file. If the training averaged the weights (EMAHook), 'state_dict' holds the averages.

    Args:
        source: checkpoint of a training run.
        target: file to write, to whose stem the hash is added; missing folders are created.
        save_keys: entries to keep; of 'meta', if there is one, the data set, the progress and the version.

    Raises:
        CheckpointError: the source cannot be read safely, an entry is missing or holds more than tensors and
            plain containers, or the target is a folder.
    """
    source, target = Path(source), Path(target)
    if target.is_dir():
        raise CheckpointError(f'{target} is a folder: name the file to write, e.g. {target / source.name}')
    content = read_content(source)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f'{source} holds a {type(content).__name__}, not a dict of weights: give a checkpoint file'
        )
    missing = [key for key in save_keys if key not in content and key != 'meta']
    if missing:
        raise CheckpointError(
            f'{source} has no entry {", ".join(map(repr, missing))}, it has: '
            f'{shorten_list([str(key) for key in content])}. Give a checkpoint of a training run, or choose '
            'the entries to keep with --save-keys'
        )
    publication = Publication(target)
    published: dict[str, object] = {}
    for key, value in content.items():
        if key not in save_keys:
            publication.dropped[str(key)] = 'not among the entries to keep'
        elif key == 'meta':
            published[key] = _trim_meta(value, publication)
        elif key == 'state_dict':
            weights = weights_in(content, source, key)
            published[key] = state = {name: _compact(tensor) for name, tensor in weights.state.items()}
            numbers = sum(tensor.numel() for tensor in state.values())
            publication.kept[key] = f'{len(state)} tensors, {numbers} numbers'
        elif _is_plain(value):
            published[key] = value
            publication.kept[key] = f'unchanged, a {type(value).__name__}'
        else:
            raise CheckpointError(
                f'{source}: {key!r} cannot be published: it holds {NOT_PLAIN}. Leave it out of --save-keys'
            )
    buffer = io.BytesIO()
    torch.save(published, buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    publication.path = target.with_name(f'{target.name.removesuffix(".pth")}-{digest[:8]}.pth')
    with write_atomically(publication.path) as partial:
        partial.write_bytes(buffer.getbuffer())
    return publication


def _trim_meta(meta: Mapping, publication: Publication) -> dict:
    """Return the fields of ``meta`` that are kept; list kept and dropped ones in the publication."""
    trimmed = {}
    for name, value in meta.items():
        if name not in META_FIELDS:
            publication.dropped[f'meta.{name}'] = 'about the training run'
        elif isinstance(value, Mapping):
            plain = {key: item for key, item in value.items() if _is_plain(item)}
            for key in value:
                if key not in plain:
                    publication.dropped[f'meta.{name}.{key}'] = f'holds {NOT_PLAIN}'
            trimmed[name] = plain
            publication.kept[f'meta.{name}'] = ', '.join(map(str, plain))
        elif _is_plain(value):
            trimmed[name] = value
            publication.kept[f'meta.{name}'] = str(value)
        else:
            publication.dropped[f'meta.{name}'] = f'holds {NOT_PLAIN}'
    return trimmed


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, (list, tuple, set)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, Tensor))


def _compact(value: Tensor) -> Tensor:
    """Return a tensor that is saved without the rest of a larger storage."""
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()
