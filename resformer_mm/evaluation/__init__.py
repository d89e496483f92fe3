"""What becomes of predictions in a test."""

from .dump_predictions import DumpLabelMaps, dump_metric

__all__ = ['DumpLabelMaps', 'dump_metric']
