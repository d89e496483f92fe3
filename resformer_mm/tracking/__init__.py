"""Experiment trackers: TensorBoard, Weights & Biases, MLflow and others, through MMEngine's backends."""

from .hook import ResolutionCurveHook
from .settings import drop_trackers, settle_trackers, tracker_settings

__all__ = ['ResolutionCurveHook', 'drop_trackers', 'settle_trackers', 'tracker_settings']
