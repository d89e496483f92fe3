"""Tables and pictures of measured results."""

from .resolution_curves import ResolutionCurve, format_table, plot_curves, read_curve, write_csv

__all__ = ['ResolutionCurve', 'format_table', 'plot_curves', 'read_curve', 'write_csv']
