"""Experiment trackers: TensorBoard, Weights & Biases, MLflow and others, through MMEngine's backends."""

from .errors import TrackerError, tracker_errors
from .hook import ResolutionCurveHook
from .settings import drop_trackers, settle_trackers, tracker_settings

__all__ = [
    'ResolutionCurveHook',
    'TrackerError',
    'drop_trackers',
    'settle_trackers',
    'tracker_errors',
    'tracker_settings',
]
