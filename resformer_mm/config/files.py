"""Reading of config files, and the scope of their library."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope

from resformer_mm.compat.lazy_configs import finish_lazy_config, make_writable
from resformer_mm.compat.yaml_files import read_plain_yaml
from resformer_mm.libraries import prepare_libraries, scope_of

from .overrides import check_overrides


def read_config(config: str | Path | Config, cfg_options: dict | None = None) -> Config:
    """Return the config of a file, or a copy of a config, with overrides.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a valid config, the overrides do not fit it or have no effect, or it
            has no ``model``.
    """
    cfg = read_any_config(config, cfg_options)
    if cfg.get('model') is None:
        source = cfg.filename or 'the config'
        raise ValueError(f'{source} has no `model`: give the config of a model, as for tools/train.py')
    return cfg


def read_any_config(config: str | Path | Config, cfg_options: dict | None = None) -> Config:
    """Return a config as :func:`read_config` does, also a part of one, such as a base config.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a valid config, or the overrides do not fit it or have no effect.
    """
    if isinstance(config, Config):
        cfg, source = config.copy(), config.filename or 'the config'
    else:
        if not Path(config).is_file():
            raise FileNotFoundError(f'there is no config {config}')
        source = config
        try:
            read_plain_yaml()
            cfg = finish_lazy_config(Config.fromfile(config))
        except Exception as error:  # a config is code: it can fail in any way
            raise ValueError(f'{config} is not a valid config: {type(error).__name__}: {error}') from error
        make_writable(cfg)
    if cfg_options:
        check_overrides(cfg, cfg_options, source)
        try:
            cfg.merge_from_dict(cfg_options)
        except (KeyError, TypeError, IndexError, AssertionError) as error:
            raise ValueError(f'--cfg-options do not fit {source}: {type(error).__name__}: {error}') from error
    return cfg


def enter_scope(cfg: Config) -> None:
    """Make the ``default_scope`` of a config the scope in which names are looked up first.

    A config without one gets that of :func:`~resformer_mm.libraries.scope_of`.

    Raises:
        ImportError: the config has no scope, and its model cannot be imported.
        ValueError: the config has no scope, and its model is not registered.
    """
    prepare_libraries(cfg)
    cfg.default_scope = scope_of(cfg)
    init_default_scope(cfg.default_scope)
