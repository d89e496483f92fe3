"""Tables and figures of models and results; the exports of this package need only matplotlib."""

from .resolution_curves import ResolutionCurve, format_table, plot_curves, read_curve, write_curves

__all__ = ['ResolutionCurve', 'format_table', 'plot_curves', 'read_curve', 'write_curves']
