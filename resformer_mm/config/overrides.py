"""Overrides of a config that have no effect, because nothing reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from resformer_mm.repairs import remark

MOST_FIELDS = 8

# What MMEngine's runner and the tools, here and in the libraries, read from the top level of a config.
READ = frozenset(
    {
        'activation_checkpointing',
        'auto_scale_lr',
        'cascade',
        'compile',
        'custom_hooks',
        'custom_imports',
        'data_preprocessor',
        'default_hooks',
        'default_scope',
        'efficient_conv_bn_eval',
        'env_cfg',
        'experiment_name',
        'find_unused_parameters',
        'launcher',
        'load_from',
        'log_level',
        'log_processor',
        'model',
        'model_wrapper_cfg',
        'optim_wrapper',
        'param_scheduler',
        'randomness',
        'resume',
        'runner_type',
        'strategy',
        'strict_data',
        'sync_bn',
        'test_cfg',
        'test_dataloader',
        'test_evaluator',
        'train_cfg',
        'train_dataloader',
        'tta_model',
        'tta_pipeline',
        'val_cfg',
        'val_dataloader',
        'val_evaluator',
        'visualizer',
        'work_dir',
    }
)


def check_overrides(cfg: Config, options: Mapping[str, Any], source: object) -> None:
    """Check that overrides reach something, before they are applied.

    A variable of a config file, such as ``num_classes``, is used up when the file is read: setting it
    afterwards changes no field. Names that are neither read nor a value of any field are told, but accepted,
    since a hook may read them.

    Args:
        cfg: the config without the overrides.
        options: values by the path of their field, ``{'train_cfg.max_epochs': 5}``.
        source: the config file, for messages.

    Raises:
        ValueError: an override sets a variable whose value is in fields; the message names them.
    """
    settings: dict = cfg._cfg_dict
    problems = []
    for name, value in options.items():
        root = name.partition('.')[0]
        if root in READ:
            continue
        if root not in settings:
            remark(
                f'--cfg-options {name}', f'neither {source} nor a tool has a field `{root}`: check the name'
            )
            continue
        before = dict.__getitem__(settings, root)
        if name == root and _plain(before) == _plain(value):
            continue
        if fields := fields_with(settings, root, before):
            problems.append(
                f'--cfg-options {name} has no effect: `{root}` is a variable that was used up when {source} '
                f'was read. Its value is in {_listed(fields)}: override these fields'
            )
        else:
            remark(f'--cfg-options {name}', f'`{root}` of {source} is a variable that no tool reads')
    if problems:
        raise ValueError('; '.join(problems))


def fields_with(settings: dict, name: str, value: Any) -> list[str]:
    """Return the paths of the fields that hold the value of a variable, those of its name first.

    Args:
        settings: the content of a config.
        name: name of the variable.
        value: its value.
    """
    wanted = _plain(value)
    is_number = isinstance(wanted, (int, float))
    is_telling = not isinstance(wanted, bool) and wanted not in (None, '', [], {})
    same_name, others = [], []
    for path, key, field in _fields({root: item for root, item in dict.items(settings) if root in READ}):
        if not _holds(_plain(field), wanted):
            continue
        if key == name:
            same_name.append(path)
        elif is_telling:
            others.append(path)
    if same_name and is_number:  # other fields may have the same number by chance
        others = [path for path in others if path.startswith('param_scheduler')]
    found: list[str] = []
    for path in same_name + others:
        if not any(path.startswith(f'{outer}.') for outer in found):
            found.append(path)
    return found


def _fields(value: Any, path: str = '', key: str = '') -> Iterator[tuple[str, str, Any]]:
    """Yield path, name and value of everything in nested containers, outermost first."""
    if path:
        yield path, key, value
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = dict.items(value)  # the items of a ConfigDict would be imported
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for name, item in items:
        yield from _fields(item, f'{path}.{name}' if path else str(name), str(name))


def _holds(field: Any, wanted: Any) -> bool:
    """Whether the value of a field is that of a variable, or was made from it."""
    if isinstance(wanted, dict):
        return isinstance(field, dict) and bool(wanted) and all(field.get(k) == v for k, v in wanted.items())
    if isinstance(wanted, str) and isinstance(field, str) and len(wanted) > 3 and '/' in wanted:
        return field.startswith(wanted)
    return type(field) is type(wanted) and field == wanted


def _plain(value: Any) -> Any:
    """Return nested containers as dicts and lists, with text for everything else that is not plain."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in dict.items(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _listed(fields: Sequence[str]) -> str:
    more = len(fields) - MOST_FIELDS
    return ', '.join(fields[:MOST_FIELDS]) + (f' and {more} more' if more > 0 else '')
