"""Export of a model to a verified file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from resformer_mm.files import write_atomically

from .formats import Format
from .model import DeployableModel, ExportError
from .verification import Difference, Size, check_sizes, compare

TOLERANCE = 1e-4
HALF_TOLERANCE = 0.02
"""Of a model that computes in 16 bits, as a fraction of its largest output."""


def export(
    model: DeployableModel,
    path: str | Path,
    file_format: Format,
    sizes: Sequence[Size],
    tolerance: float | None = None,
    report: Callable[[Difference], None] = lambda difference: None,
) -> list[Difference]:
    """Write a model to a file if the exported model agrees with PyTorch.

    An existing file is replaced only by one that agrees; otherwise no file is written.

    Args:
        model: the model with its normalisation.
        path: the file; its folder is created.
        file_format: format of the file.
        sizes: heights and widths in pixels at which to compare; if empty, the file is not compared.
        tolerance: largest absolute difference of any output; by default :data:`TOLERANCE`, and of a model
            that computes in 16 bits :data:`HALF_TOLERANCE` times the largest output at that size.
        report: called after every comparison.

    Returns:
        The comparisons.

    Raises:
        ExportError: the model cannot be exported, a size is smaller than a patch, a difference is larger than
            the tolerance, or there were no outputs to compare.
        ImportError: a package that the format needs is missing.
        OSError: the file cannot be written.
    """
    check_sizes(sizes, model.patch_size)
    differences = []
    with write_atomically(path) as partial:
        file_format.write(model, partial)
        for difference in compare(file_format.load(partial), model, sizes) if sizes else ():
            differences.append(difference)
            report(difference)
        _check(differences, _limits(model, differences, tolerance), path)
    return differences


def _limits(
    model: DeployableModel, differences: Sequence[Difference], tolerance: float | None
) -> list[float]:
    """Return the largest allowed difference of each comparison."""
    if tolerance is None and model.dtype != 'float32':
        return [HALF_TOLERANCE * item.magnitude for item in differences]
    return [TOLERANCE if tolerance is None else tolerance] * len(differences)


def _check(differences: Sequence[Difference], limits: Sequence[float], path: str | Path) -> None:
    if differences and not any(item.magnitude for item in differences):
        raise ExportError(
            f'{path} was not written: the outputs were empty or zero at all sizes, so nothing was compared. '
            'Give larger sizes, lower the threshold of scores in test_cfg, or do not compare'
        )
    # Also those that are NaN.
    faults = [(item, limit) for item, limit in zip(differences, limits) if not item.value <= limit]
    if faults:
        named = ', '.join(f'{item.height}x{item.width}' for item, _ in faults[:4])
        named += f' and {len(faults) - 4} more' if len(faults) > 4 else ''
        worst, limit = max(faults, key=lambda fault: fault[0].value)
        raise ExportError(
            f'{path} was not written: at {named} the exported model differs from PyTorch by up to '
            f'{worst.value:.1e}, more than the tolerance of {limit:.1e}'
        )
