"""A local web page that shows the effect of the resolution on a prediction."""

from .page import serve
from .predictor import Answer, ResolutionRange, WebPredictor

__all__ = ['Answer', 'ResolutionRange', 'WebPredictor', 'serve']
