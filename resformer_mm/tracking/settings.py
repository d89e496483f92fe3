"""The field ``visualizer.vis_backends``, which names the trackers of a run."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import VISBACKENDS
from mmengine.visualization import LocalVisBackend

from resformer_mm.compat.mlflow_names import write_names_of_mlflow
from resformer_mm.compat.mlflow_resume import continue_runs_of_mlflow
from resformer_mm.compat.mlflow_run_names import name_runs_of_mlflow
from resformer_mm.compat.mlflow_store import use_store_of_mlflow
from resformer_mm.config_types import find_type, type_field, type_name

FIELD = 'visualizer.vis_backends'
LOCAL = LocalVisBackend.__name__
# Backends of MMEngine -> what they import when the run begins, which pip installs under the same name.
PACKAGES = {
    'AimVisBackend': 'aim',
    'ClearMLVisBackend': 'clearml',
    'DVCLiveVisBackend': 'dvclive',
    'MLflowVisBackend': 'mlflow',
    'NeptuneVisBackend': 'neptune',
    'TensorboardVisBackend': 'tensorboard',
    'WandbVisBackend': 'wandb',
}


def settle_trackers(cfg: Config) -> None:
    """Write out the backends that a config names, and check that they can be used.

    An entry of ``visualizer.vis_backends`` may be a name, so that a command line can set the field:
    ``visualizer.vis_backends=LocalVisBackend,TensorboardVisBackend``.

    Raises:
        ImportError: the package of a tracker is not installed.
        ValueError: an entry is not a backend.
    """
    settings = cfg.get('visualizer')
    if not isinstance(settings, dict) or dict.get(settings, 'vis_backends') is None:
        return
    entries = dict.__getitem__(settings, 'vis_backends')
    if isinstance(entries, (str, dict)):
        entries = [entries]
    if not isinstance(entries, (list, tuple)):
        raise ValueError(f'{FIELD}={entries!r}: give a list such as [dict(type={LOCAL!r})]')
    scope = cfg.get('default_scope') or 'mmengine'
    settings['vis_backends'] = [_settled(entry, number, scope) for number, entry in enumerate(entries)]
    for mend in (use_store_of_mlflow, name_runs_of_mlflow, write_names_of_mlflow, continue_runs_of_mlflow):
        mend()
    if type_field(settings) is None:
        settings['type'] = 'mmengine.Visualizer'


def tracker_settings(cfg: Config) -> list[dict]:
    """Return the settings of the trackers of a settled config: all backends but the local one."""
    settings = cfg.get('visualizer')
    entries = (dict.get(settings, 'vis_backends') if isinstance(settings, dict) else None) or []
    return [entry for entry in entries if type_name(type_field(entry)) != LOCAL]


def drop_trackers(cfg: Config) -> None:
    """Remove the trackers from a settled config, for runs that are parts of something else."""
    trackers = tracker_settings(cfg)
    if trackers:
        kept = [entry for entry in cfg.visualizer['vis_backends'] if entry not in trackers]
        cfg.visualizer['vis_backends'] = kept


def _settled(entry: Any, number: int, scope: str) -> Any:
    if isinstance(entry, str):
        entry = ConfigDict(type=entry)
    kind = type_field(entry)
    field = f'{FIELD}.{number}'
    if kind is None or find_type(kind, VISBACKENDS, scope) is None:
        known = ', '.join(sorted({LOCAL, *PACKAGES}))
        raise ValueError(f'{field}.type={kind!r} is not a registered backend: choose from {known}')
    package = PACKAGES.get(type_name(kind))
    if package is not None and find_spec(package) is None:
        raise ImportError(
            f'{field}: {type_name(kind)} needs the package {package!r}, which is not installed: run `pip '
            f'install {package}`, or leave the tracker out with `--cfg-options {FIELD}={LOCAL}`'
        )
    return entry
