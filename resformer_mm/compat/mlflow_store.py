"""Where MLflow stores the runs.

MMEngine 0.10 makes MLflow store a run as files in the folder of the run, unless its backend has a
``tracking_uri``. MLflow 3.17 refuses to store files, so the run stops before it begins; earlier versions
store them where ``mlflow ui`` does not look. With this module, a backend without a ``tracking_uri`` uses the
one of MLflow itself: that of the environment variable ``MLFLOW_TRACKING_URI``, or the default of its version.
It is not written into the config, because it may contain a password.
"""

from __future__ import annotations

from functools import wraps

from mmengine.visualization import MLflowVisBackend

__all__ = ['use_store_of_mlflow']

_MARK = '_uses_store_of_mlflow'


def use_store_of_mlflow() -> None:
    """Let the backends of MLflow without a ``tracking_uri`` store runs where MLflow does by itself."""
    start = MLflowVisBackend._init_env
    if hasattr(start, _MARK):
        return

    @wraps(start)
    def started(backend: MLflowVisBackend) -> None:
        if backend._tracking_uri is None:
            import mlflow

            backend._tracking_uri = mlflow.get_tracking_uri()
        start(backend)

    setattr(started, _MARK, True)
    MLflowVisBackend._init_env = started
