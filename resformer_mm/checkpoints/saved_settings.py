"""Settings of backbones as JSON, which is data: reading it imports nothing and runs nothing."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resformer_mm.models.backbones.resformer import ResFormer
from resformer_mm.models.backbones.saved import INITIALISATION, setting_names
from resformer_mm.models.layers import (
    AttentionScale,
    DropPath,
    GlobalPosition,
    GridMerger,
    LocalPosition,
    PatchEmbed,
)
from resformer_mm.registry import MODELS
from resformer_mm.text import shorten_list
from resformer_mm.version import __version__

from .reading import CheckpointError

CLASS_FIELD, VERSION_FIELD = '_class_name', '_resformer_mm_version'
MAX_BYTES = 2**20  # a file has some hundred bytes
DICTS = ('arch', 'lora')  # settings whose values are dicts that name no class
MODULES = {
    'attention_scale': AttentionScale,
    'drop_path': DropPath,
    'global_position': GlobalPosition,
    'local_position': LocalPosition,
    'patch_embed': PatchEmbed,
    'token_merger': GridMerger,
}


def encode_settings(model: ResFormer) -> str:
    """Return the settings of a backbone as the text of its ``config.json``.

    Raises:
        CheckpointError: a setting is not plain data, or a module that they name is not registered.
    """
    # The type of a module follows below, from the class that was built.
    settings = {name: _plain(value, name) for name, value in model.settings.items()}
    modules = {
        'attention_scale': getattr(model.blocks[0].attn, 'attention_scale', None),
        'drop_path': model.blocks[0].drop_path,
        'global_position': model.global_position,
        'local_position': getattr(model.blocks[0].attn, 'local_position', None),
        'patch_embed': model.patch_embed,
        'token_merger': model.token_merger,
    }
    for field, module in modules.items():
        if settings.get(field) is not None and module is not None:
            settings[field] = {**settings[field], 'type': _registered_name(type(module), field)}
    content = {CLASS_FIELD: type(model).__name__, VERSION_FIELD: __version__, **settings}
    return json.dumps(content, indent=2, allow_nan=False) + '\n'


def read_settings(path: Path, kind: type[ResFormer], replaced: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the settings in the file beside weights; None if this project did not write it.

    Args:
        path: the file.
        kind: class that is to be built.
        replaced: settings that are not taken from the file.

    Raises:
        CheckpointError: the file is not JSON, is of another class, or has a setting that is unknown or names
            anything but a registered module of its kind.
    """
    if not path.is_file():
        return None
    content = _read_json(path)
    if not isinstance(content, dict) or VERSION_FIELD not in content:
        return None
    settings = {name: value for name, value in content.items() if name not in (CLASS_FIELD, VERSION_FIELD)}
    saved_kind = content.get(CLASS_FIELD)
    if saved_kind not in [base.__name__ for base in kind.__mro__]:
        raise CheckpointError(
            f'{path} is of a {str(saved_kind)[:100]!r}, not of a {kind.__name__}: use from_pretrained of '
            'that class, or take the weights alone with load_pretrained'
        )
    known = setting_names(kind)
    if unknown := [name for name in settings if name not in known]:
        raise CheckpointError(
            f'{path} has {shorten_list(unknown)}, which {kind.__name__} does not have: its settings are '
            f'{", ".join(sorted(known))}'
        )
    for name, value in settings.items():
        if name in MODULES:
            if name not in replaced:
                _check_module(value, name, path)
        elif isinstance(value, dict) and not (name in DICTS and all(map(_is_plain, value.values()))):
            raise CheckpointError(f'{path}: {name} is not a number, text or list')
    return {name: value for name, value in settings.items() if name not in replaced or name == 'arch'}


def _read_json(path: Path) -> Any:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise CheckpointError(f'{path} has {size:,} bytes, too many for the settings of a model')
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f'{path} is not valid JSON ({str(error)[:200]}): use the file that was saved with the weights, '
            'or move it away to have the settings that their shapes imply'
        ) from error


def _check_module(config: Any, field: str, path: Path) -> None:
    """Check that the config of a module names a registered class and plain arguments."""
    if config is None:
        return
    name = config.get('type') if isinstance(config, dict) else None
    kind = _registered(MODULES[field]).get(name) if isinstance(name, str) else None
    if kind is None:
        raise CheckpointError(
            f'{path}: {field}.type={str(name)[:100]!r} is not a registered {MODULES[field].__name__}: '
            f'import the module that registers it before, or give {field}=... to from_pretrained'
        )
    known = {*inspect.signature(kind).parameters} - {*INITIALISATION} | {'type'}
    wrong = [key for key, value in config.items() if key not in known or not _is_plain(value)]
    if wrong:
        raise CheckpointError(f'{path}: {field} has {shorten_list(wrong)}, which {name} does not take')


def _registered(base: type) -> dict[str, type]:
    """Return the registered classes of a kind by the names that configs use; nothing is imported."""
    root = MODELS.root
    found = {**root.module_dict, **MODELS.module_dict}
    for scope, registry in root.children.items():
        found.update({f'{scope}.{name}': kind for name, kind in registry.module_dict.items()})
    return {name: kind for name, kind in found.items() if inspect.isclass(kind) and issubclass(kind, base)}


def _registered_name(kind: type, field: str) -> str:
    for name, registered in _registered(MODULES[field]).items():
        if registered is kind:
            return name
    raise CheckpointError(
        f'{field}: {kind.__name__} is not registered, so no file can name it: register it with '
        '@MODELS.register_module(), or save the state dict alone'
    )


def _plain(value: Any, field: str) -> Any:
    """Return a setting as plain data, without what initialises weights."""
    if isinstance(value, dict):
        # `dict.items`, because the items of a ConfigDict would be imported.
        kept = [
            (name, entry) for name, entry in dict.items(value) if name not in (*INITIALISATION, '_scope_')
        ]
        return {
            name: '' if name == 'type' else _plain_value(entry, f'{field}.{name}') for name, entry in kept
        }
    return _plain_value(value, field)


def _plain_value(value: Any, field: str) -> Any:
    if isinstance(value, (list, tuple, range)):
        return [_plain_value(entry, field) for entry in value]
    if not _is_plain(value):
        raise CheckpointError(f'{field}={value!r} cannot be saved: it is not a number, text or list')
    return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int, str))
