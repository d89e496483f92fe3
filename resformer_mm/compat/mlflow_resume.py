"""Runs of MLflow that are continued.

MMEngine 0.10 logs the whole config as parameters when a run begins. ``MLFLOW_RUN_ID`` continues a run, but
MLflow refuses to change a parameter, and at least ``resume`` and ``load_from`` differ, so a resumed training
stops. With this module, the parameters stay those with which the run began, and its file ``config.py`` is
that of the last start.
"""

from __future__ import annotations

import logging
from functools import wraps

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.visualization import MLflowVisBackend

__all__ = ['continue_runs_of_mlflow']

_MARK = '_continues_runs'


def continue_runs_of_mlflow() -> None:
    """Let the backends of MLflow keep the parameters of a run that is continued."""
    before = MLflowVisBackend.add_config
    if hasattr(before, _MARK):
        return

    @wraps(before)
    def add_config(backend: MLflowVisBackend, config: Config, **kwargs: object) -> None:
        try:
            before(backend, config, **kwargs)
        except backend.experiment.MlflowException as error:
            if 'Changing param values' not in str(error):
                raise
            print_log(
                'MLflow continues a run with other settings: its parameters stay those of the first start, '
                'its file config.py has the new ones',
                logger='current',
                level=logging.WARNING,
            )
            backend.experiment.log_text(config.pretty_text, 'config.py')

    setattr(add_config, _MARK, True)
    MLflowVisBackend.add_config = add_config
