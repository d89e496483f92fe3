"""Export of trained models to ONNX and ``torch.export`` files, compared with PyTorch."""

from .export import export
from .formats import OnnxFormat, ProgramFormat
from .model import DeployableModel, ExportError, Normalization
from .selection import deployable
from .verification import Difference, check_sizes, compare, default_sizes

__all__ = [
    'DeployableModel',
    'Difference',
    'ExportError',
    'Normalization',
    'OnnxFormat',
    'ProgramFormat',
    'check_sizes',
    'compare',
    'default_sizes',
    'deployable',
    'export',
]
