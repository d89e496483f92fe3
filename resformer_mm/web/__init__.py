"""A local web page that shows what the resolution does to a prediction."""

from .page import serve
from .predictor import Answer, ResolutionRange, WebPredictor

__all__ = ['Answer', 'ResolutionRange', 'WebPredictor', 'serve']
