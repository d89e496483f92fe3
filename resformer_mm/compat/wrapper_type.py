"""Model wrappers that a config names by their class.

MMEngine up to 0.10.7 looks up ``model_wrapper_cfg['type']`` with ``Registry.get``, which takes names alone:
with a pure-Python config, training in several processes stops with ``TypeError: The key argument of
Registry.get must be a str``. The fork onedl-mmengine 0.10.12 accepts classes.
"""

from __future__ import annotations

import inspect

from mmengine.config import Config
from mmengine.registry import MODEL_WRAPPERS

__all__ = ['name_wrapper_type']


def name_wrapper_type(cfg: Config) -> None:
    """Replace the class of a model wrapper in a config by its full name, which every version can look up.

    Nothing changes if the config has no wrapper, names it already, or MMEngine accepts its class.
    """
    kind = (cfg.get('model_wrapper_cfg') or {}).get('type')
    if not inspect.isclass(kind):
        return
    try:
        MODEL_WRAPPERS.get(kind)
    except TypeError:
        cfg.model_wrapper_cfg.type = f'{kind.__module__}.{kind.__qualname__}'
