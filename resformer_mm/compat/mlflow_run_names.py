"""Names of the runs of MLflow.

MLflow draws a name such as "overjoyed-slug-911" from Python's random numbers, which MMEngine seeds before:
all runs with one seed have the same name. With this module, a run without a ``run_name`` is called like its
work directory and time.
"""

from __future__ import annotations

import os
from functools import wraps
from pathlib import Path

from mmengine.visualization import MLflowVisBackend

__all__ = ['name_runs_of_mlflow']

_MARK = '_names_runs'


def name_runs_of_mlflow() -> None:
    """Let the backends of MLflow give new runs a name that tells them apart."""
    start = MLflowVisBackend._init_env
    if hasattr(start, _MARK):
        return

    @wraps(start)
    def started(backend: MLflowVisBackend) -> None:
        if backend._run_name is None and 'MLFLOW_RUN_ID' not in os.environ:
            # The folder is WORK_DIR/TIME/vis_data.
            backend._run_name = ' '.join(Path(backend._save_dir).parts[-3:-1])
        start(backend)

    setattr(started, _MARK, True)
    MLflowVisBackend._init_env = started
