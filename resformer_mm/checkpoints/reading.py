"""Reading a checkpoint without running what is inside it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

# Where the weights stand, in order of preference. Other entries, such as the averaged copies in
# 'model_ema' and 'ema_state_dict', are never taken unless asked for by name.
DEFAULT_KEYS = ('state_dict', 'model')


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names the file and what to do."""


@dataclass
class Weights:
    """The tensors of one checkpoint file.

    Attributes:
        path: the file.
        key: entry of the file that holds the tensors, or '' if the file is the bare state dict.
        state: name -> tensor, in the order of the file.
        notes: what the reader should know, e.g. which entries of the file were left aside.
        dataset_meta: what a training run noted of its data set, e.g. ``classes``.
    """

    path: Path
    key: str
    state: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)
    dataset_meta: dict = field(default_factory=dict)


def read_weights(path: str | Path, key: str | None = None) -> Weights:
    """Read the tensors of a checkpoint file with ``weights_only=True``, onto the CPU.

    Without ``key``, the entry 'state_dict' (MMEngine; with an EMAHook these are the averaged
    weights) is taken, else 'model' (the published files), else the file itself must be the state
    dict.

    Args:
        path: the file.
        key: entry of the file to take, e.g. 'model_ema'.

    Raises:
        CheckpointError: the file is missing, corrupt, no checkpoint, has no such entry, or needs
            more than tensors and plain containers.
    """
    path = Path(path)
    content = read_content(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f'{path} holds a {type(content).__name__}, no dict of weights: give a checkpoint file'
        )
    key = _choose_key(path, content, key)
    notes = []
    state = content[key] if key else content
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f'{path}: the entry {key!r} holds no weights; choose another with --key')
    if key:
        others = [str(name) for name in content if name not in (key, 'meta')]
        notes.append(f'weights taken from the entry {key!r}')
        if others:
            notes.append(f'entries of the file left aside: {", ".join(others)}')
    strays = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if strays:
        raise CheckpointError(
            f'{path}: {", ".join(strays[:5])} in {key or "the file"!r} is no tensor, so this is no '
            'state dict; if the weights stand in another entry of the file, choose it with --key'
        )
    state = dict(state)
    if any(name.startswith('module.') for name in state):
        state = {name.removeprefix('module.'): value for name, value in state.items()}
        notes.append("prefix 'module.' (DistributedDataParallel or weight averaging) taken off the names")
    meta = content.get('meta')
    dataset_meta = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    return Weights(path, key, state, notes, dict(dataset_meta or {}))


def _choose_key(path: Path, content: Mapping, key: str | None) -> str:
    if key is not None:
        if key not in content:
            raise CheckpointError(f'{path} has no entry {key!r}, it has: {_shorten(content)}')
        return key
    for candidate in DEFAULT_KEYS:
        if candidate in content:
            return candidate
    if any(isinstance(value, Tensor) for value in content.values()):
        return ''
    raise CheckpointError(
        f'{path} has neither of the entries {DEFAULT_KEYS} nor tensors of its own, it has: '
        f'{_shorten(content)}. Name the entry that holds the weights with --key'
    )


def _shorten(content: Mapping) -> str:
    names = [repr(name) for name in content]
    return ', '.join(names[:8]) + (', ...' if len(names) > 8 else '') if names else 'nothing'


def read_content(path: Path) -> object:
    """Return all that a checkpoint file holds, tensors and plain containers, on the CPU.

    Raises:
        CheckpointError: the file is missing, corrupt, no checkpoint, or holds something else as well.
    """
    if not path.is_file():
        reason = 'is a folder' if path.is_dir() else 'does not exist'
        raise CheckpointError(f'{path} {reason}: give the path of a checkpoint file')
    try:
        with _log_histories_left_aside():
            return torch.load(path, map_location='cpu', weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises a dozen types for a damaged file
        needed = _refused_name(str(error))
        if needed is not None:
            raise CheckpointError(
                f'{path} is refused: besides tensors it holds {needed!r}, and unpickling that '
                'could run code on this machine. If you trust whoever made it, load it in an '
                'isolated environment with torch.load(..., weights_only=False) and save the weights '
                "alone: torch.save({'model': state_dict}, ...)"
            ) from error
        detail = re.search(r'WeightsUnpickler error: (.*)', str(error))
        detail = detail[1] if detail else str(error).strip().split('\n')[0][:200]
        raise CheckpointError(
            f'{path} is corrupt, incomplete or no PyTorch checkpoint: download or copy it again '
            f'({type(error).__name__}{": " if detail else ""}{detail})'
        ) from error


def _refused_name(message: str) -> str | None:
    """Return the global that the restricted unpickler refused, if that is what it complains of."""
    for pattern in (r'GLOBAL ([\w.]+)', r"allowlisted.*but got (?:<\w+ ')?([\w.]+)"):
        found = re.search(pattern, message)
        if found:
            return found.group(1)
    return None


class _LeftAside:
    """Stands in for an object that a checkpoint of MMEngine's runner holds beside the weights."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# What the runner's log histories are made of. `getattr` is how a method of them is pickled.
_RUNNER_GLOBALS = (
    'mmengine.logging.history_buffer.HistoryBuffer',
    'builtins.getattr',
    '__builtin__.getattr',
    'numpy.ndarray',
    'numpy.dtype',
    *(
        f'numpy.{core}.multiarray.{function}'
        for core in ('core', '_core')
        for function in ('_reconstruct', 'scalar')
    ),
)


def _log_histories_left_aside() -> contextlib.AbstractContextManager:
    """Make the restricted unpickler put empty stand-ins in the place of log histories.

    Without them no checkpoint of MMEngine's runner could be read; with them nothing but tensors and
    plain containers is ever built. PyTorch before 2.6 does not take stand-ins, and refuses there.
    """
    if torch.__version__ < (2, 6):
        return contextlib.nullcontext()
    return torch.serialization.safe_globals([(_LeftAside, name) for name in _RUNNER_GLOBALS])
