"""Tables and pictures of models and results; what needs no library but matplotlib is offered here."""

from .resolution_curves import ResolutionCurve, format_table, plot_curves, read_curve, write_curves

__all__ = ['ResolutionCurve', 'format_table', 'plot_curves', 'read_curve', 'write_curves']
