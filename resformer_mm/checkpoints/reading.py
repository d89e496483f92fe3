"""Reading of checkpoints without running code that they contain."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mmengine.dist import barrier, is_main_process
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor
from torch.hub import download_url_to_file, get_dir

from resformer_mm.compat.weights_only import MapLocation, TooLargeError, load_weights_only
from resformer_mm.repairs import repair

from . import hub
from .errors import CheckpointError
from .folders import folder_fault, is_part, sharded, weights_of_folder
from .other_files import other_file
from .safetensors_files import is_safetensors, load_safetensors
from .stand_ins import stand_in_for

# The entries that weights are taken from, in order of preference; 'teacher' is that of DINO. Averaged copies
# beside them are never taken unless asked for by name.
DEFAULT_KEYS = ('state_dict', 'model', 'model_state_dict', 'model_state', 'teacher')

# Averaged weights, which are taken if the file has no others.
AVERAGED_KEYS = ('state_dict_ema', 'model_ema', 'ema_state_dict', 'ema', 'model_ema_state_dict')
# Also for tools that take no key.
_OTHER_ENTRY = (
    'If the weights are in another entry, name it with key=... of PretrainedResFormer or --key of '
    'tools/model_converters/resformer_official.py, or save it as a file of its own, '
    "torch.save({'state_dict': torch.load(FILE)[ENTRY]}, NEW_FILE)"
)
_TWICE = 'it holds weights twice, save one copy of them alone'
COMPILED = '_orig_mod.'
_WEB = ('http://', 'https://')
DISTRIBUTED = 'module.'


@dataclass
class Weights:
    """The tensors of one checkpoint file.

    Attributes:
        path: the file.
        key: entry of the file that holds the tensors, or '' if the file is the bare state dict.
        state: name -> tensor, in the order of the file.
        notes: remarks, e.g. which entries of the file were ignored.
        dataset_meta: what the training run recorded of its data set, e.g. ``classes``.
    """

    path: Path
    key: str
    state: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)
    dataset_meta: dict = field(default_factory=dict)


def read_weights(path: str | Path, key: str | None = None) -> Weights:
    """Read the tensors of a checkpoint file with ``weights_only=True``, onto the CPU.

    Without ``key``, the weights are in the entry 'state_dict' (MMEngine; with an EMAHook the averaged
    weights), else in 'model' (the published files) or one of the other usual names, else the file itself is
    the state dict. Averaged weights are taken if there are no others. Files of safetensors are read, too.
    What PyTorch's wrappers put before the names is taken off.

    Args:
        path: the file or folder; a repository of the Hugging Face hub, ``'hf-hub:owner/name'``; or a URL or
            name of a model zoo that MMEngine downloads.
        key: entry of the file to take, e.g. 'model_ema'.

    Raises:
        CheckpointError: the file is missing, corrupt, not a checkpoint, has no such entry, or contains
            more than tensors and plain containers.
    """
    if str(path).startswith(hub.PREFIX):
        path = hub.fetch(str(path))
    if '://' not in str(path):
        return weights_in(read_content(path), path, key)
    url = str(path)
    is_web = url.startswith(_WEB)
    content = load_from_http(url, 'cpu') if is_web else CheckpointLoader.load_checkpoint(url, 'cpu')
    return weights_in(content, Path(urlparse(url).path).name, key)


def weights_in(content: object, path: str | Path, key: str | None = None) -> Weights:
    """Return the weights in the content of a file that was already read; see :func:`read_weights`.

    Args:
        content: result of :func:`read_content`.
        path: the file, for messages.
        key: entry of the file to take.

    Raises:
        CheckpointError: no weights are found.
    """
    path = Path(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f'{path} holds a {type(content).__name__}, not a dict of weights: give a checkpoint file'
        )
    key = _choose_key(path, content, key)
    notes = []
    state = content[key] if key else content
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f'{path}: the entry {key!r} does not hold weights. {_OTHER_ENTRY}')
    if key:
        others = [str(name) for name in content if name not in (key, 'meta')]
        notes.append(f'weights taken from the entry {key!r}')
        if others:
            notes.append(f'entries of the file ignored: {", ".join(others)}')
    strays = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if strays:
        raise CheckpointError(
            f'{path}: {", ".join(strays[:5])} in {key or "the file"!r} is not a tensor, so this is not a '
            f'state dict. {_OTHER_ENTRY}'
        )
    state = dict(state)
    if key in AVERAGED_KEYS:
        for counter in ('steps', 'n_averaged'):
            state.pop(counter, None)
    while state and (number := sum(name.startswith(DISTRIBUTED) for name in state)):
        if key not in AVERAGED_KEYS:
            repair(path, f"names with '{DISTRIBUTED}' (DistributedDataParallel): taken off", number)
        unwrapped = {name.removeprefix(DISTRIBUTED): value for name, value in state.items()}
        if len(unwrapped) < len(state):
            raise CheckpointError(f"{path} has names that are equal without '{DISTRIBUTED}': {_TWICE}")
        state = unwrapped
        notes.append("prefix 'module.' (DistributedDataParallel or weight averaging) removed from the names")
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
    for candidate in AVERAGED_KEYS:
        if candidate in content:
            repair(path, f'no weights but the averaged ones in {candidate!r}: these are taken')
            return candidate
    raise CheckpointError(
        f'{path} has neither of the entries {DEFAULT_KEYS} nor tensors at its top level, it has: '
        f'{_shorten(content)}. {_OTHER_ENTRY}'
    )


def _shorten(content: Mapping) -> str:
    names = [repr(name) for name in content]
    return ', '.join(names[:8]) + (', ...' if len(names) > 8 else '') if names else 'nothing'


def read_content(path: str | Path, map_location: MapLocation = 'cpu') -> Any:
    """Return the content of a checkpoint file: tensors, arrays and plain containers.

    Args:
        path: the file, or a folder of the Hugging Face hub or of ``save_pretrained``.
        map_location: device of the tensors, as in :func:`torch.load`.

    Raises:
        CheckpointError: the file is missing, corrupt, not a checkpoint, or contains anything else.
    """
    path = Path(path)
    if path.is_dir():
        file = weights_of_folder(path)
        if file is None:
            raise CheckpointError(f'{path} {folder_fault(path)}')
        path = file
    if not path.is_file():
        reason = 'is not a file' if path.exists() else 'does not exist'
        raise CheckpointError(f'{path} {reason}: give the path of a checkpoint file')
    if is_part(path):
        raise CheckpointError(f'{path.parent} has {sharded(path.name)}')
    with _explained_refusals(path):
        content = _load(path, map_location)
    _unwrap_compiled(content, path)
    return content


def _load(path: Path, map_location: MapLocation) -> Any:
    """Read a file of PyTorch, which is opened once, or one of safetensors, whatever its name."""
    if path.suffix != '.safetensors':
        try:
            return load_weights_only(path, map_location, _RUNNER_GLOBALS, stand_in_for)
        except Exception:  # as many types as in _explained_refusals
            if not is_safetensors(path):
                raise
    return load_safetensors(path, map_location)


def _unwrap_compiled(content: Any, path: Path) -> None:
    """Remove what :func:`torch.compile` puts into the names of a module, in place."""
    if not isinstance(content, dict):
        return
    for state in (content, *content.values()):
        if isinstance(state, dict) and any(isinstance(name, str) and COMPILED in name for name in state):
            compiled = [name for name in state if isinstance(name, str) and COMPILED in name]
            repair(path, f"names with '{COMPILED}' (torch.compile): taken off", len(compiled))
            renamed = [(str(name).replace(COMPILED, ''), value) for name, value in state.items()]
            if len(dict(renamed)) < len(state):
                raise CheckpointError(f"{path} has names that are equal without '{COMPILED}': {_TWICE}")
            state.clear()
            state.update(renamed)


@contextlib.contextmanager
def _explained_refusals(source: str | Path) -> Iterator[None]:
    """Explain why a file cannot be read."""
    try:
        yield
    except (MemoryError, ImportError):
        raise
    except OSError as error:
        raise CheckpointError(f'{source} cannot be read: {error}') from error
    except TooLargeError as error:
        raise CheckpointError(
            f'{source} is refused: {error}. PyTorch writes no such files: get it from its origin again'
        ) from error
    except Exception as error:  # torch raises a dozen types of error for a damaged file
        needed = _refused_name(str(error))
        if needed is not None and needed.startswith('torch.nn.'):
            raise CheckpointError(
                f'{source} holds a whole model ({needed}), which can only be read by running code: save its '
                "weights alone, torch.save({'state_dict': model.state_dict()}, ...)"
            ) from error
        if needed is not None and needed.startswith('torch._utils._rebuild'):
            raise CheckpointError(
                f'{source} holds tensors that are not plain ({needed}), such as sparse or quantized '
                'ones: save dense tensors, tensor.to_dense() or tensor.dequantize()'
            ) from error
        if needed is not None:
            raise CheckpointError(
                f'{source} is refused: besides tensors it holds {needed!r}, and unpickling that '
                'could run code on this machine. If you trust its origin, load it in an '
                'isolated environment with torch.load(..., weights_only=False) and save the weights '
                "alone: torch.save({'model': state_dict}, ...)"
            ) from error
        if (kind := other_file(source)) is not None:
            raise CheckpointError(f'{source} {kind}') from error
        found = re.search(r'WeightsUnpickler error: (.*)', str(error))
        detail = found[1] if found else re.split(r'\n|\. ', str(error).strip())[0][:200]
        raise CheckpointError(
            f'{source} is corrupt, incomplete or not a PyTorch checkpoint: download or copy it again '
            f'({type(error).__name__}{": " if detail else ""}{detail})'
        ) from error


def _refused_name(message: str) -> str | None:
    """Return the global that the restricted unpickler refused, or None if the error is another one."""
    for pattern in (r'GLOBAL ([\w.]+)', r"allowlisted.*but got (?:<\w+ ')?([\w.]+)"):
        found = re.search(pattern, message)
        if found:
            return found.group(1)
    return None


class _Attribute:
    """Replacement of ``getattr``, which log histories use to refer to their methods: looks nothing up."""

    def __init__(self, *args: object) -> None:
        pass


class _History:
    """Replacement of a log history that keeps only its numbers."""

    def __init__(self, *args: object) -> None:
        self.state: Mapping = {}

    def __setstate__(self, state: Mapping) -> None:
        self.state = state

    def restore(self) -> HistoryBuffer:
        """Return the history of these numbers."""
        values, counts = self.state.get('_log_history', ()), self.state.get('_count_history', ())
        return HistoryBuffer(values, counts, self.state.get('max_length', len(values) or 1))


# Parts of the runner's log histories, by the names that files use.
_RUNNER_GLOBALS = {
    'mmengine.logging.history_buffer.HistoryBuffer': _History,
    'builtins.getattr': _Attribute,
    '__builtin__.getattr': _Attribute,
}


def secure_runner_loading() -> None:
    """Replace MMEngine's readers of local checkpoint files and of URLs by restricted ones, and add the hub.

    MMEngine's own readers unpickle anything if restricted reading fails. Every file that a runner loads,
    resumes from or initialises a model with is read once, by :func:`read_content`. Names of model zoos, such
    as ``torchvision://resnet50``, are left to MMEngine.
    """
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(_WEB, load_from_http, force=True)
    CheckpointLoader.register_scheme(hub.PREFIX, load_from_hub, force=True)


def load_from_local(filename: str, map_location: MapLocation = None) -> Any:
    """Read a local file for MMEngine, which logs the name of this function."""
    path = Path(filename).expanduser()
    return _prepare(read_content(path, map_location), path)


def load_from_hub(name: str, map_location: MapLocation = None) -> Any:
    """Fetch the weights of a repository of the Hugging Face hub, and read them."""
    return load_from_local(str(hub.fetch(name)), map_location)


def load_from_http(url: str, map_location: MapLocation = None) -> Any:
    """Download a file to PyTorch's cache in the first process, and read it in every process."""

    def load() -> Any:
        with _explained_refusals(url):
            file = _download(url)
        return read_content(file, map_location)

    content = load() if is_main_process() else None
    barrier()
    return _prepare(load() if content is None else content, url)


def _download(url: str) -> Path:
    """Return the file of a URL in PyTorch's cache, where the same URL is found again."""
    file = Path(get_dir(), 'checkpoints', Path(urlparse(url).path).name)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(file))
    return file


def _prepare(content: Any, source: str | Path) -> Any:
    """Give MMEngine the weights in the entry where it looks for them, and log histories.

    A config in ``meta['config']``, as MMCV stored it, is left out: resuming would run it as code.
    """
    meta = content.get('meta') if isinstance(content, dict) else None
    if isinstance(meta, dict) and meta.pop('config', None) is not None:
        print_log(f'{source}: the config in its meta data is not run', logger='current')
    if isinstance(content, dict) and not isinstance(content.get('state_dict'), Mapping):
        with contextlib.suppress(CheckpointError):  # no weights, or not only: MMEngine decides
            content['state_dict'] = weights_in(content, source).state
    return _restore_histories(content)


def _restore_histories(content: Any) -> Any:
    """Turn replacements back into log histories, from which a runner resumes its averages."""
    scalars = content.get('message_hub', {}).get('log_scalars') if isinstance(content, dict) else None
    if isinstance(scalars, dict):
        for name, value in scalars.items():
            if isinstance(value, _History):
                scalars[name] = value.restore()
    return content
