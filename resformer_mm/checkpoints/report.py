"""Report of matched, missing and unexpected tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from resformer_mm.text import shorten_list

from .reading import CheckpointError

Shape = tuple[int, ...]


@dataclass
class Report:
    """Names of a checkpoint against names of a model.

    Attributes:
        source: what was read, for messages.
        layout: 'resformer' (published), 'timm' (DeiT, ViT) or 'resformer_mm' (this project).
        matched: name of the model -> (name in the checkpoint, shape).
        missing: name of the model that the checkpoint does not give -> shape.
        unexpected: name in the checkpoint that the model does not take -> shape.
        reasons: name -> why it is in order that it is missing or unexpected.
        notes: further remarks.
    """

    source: str
    layout: str
    matched: dict[str, tuple[str, Shape]] = field(default_factory=dict)
    missing: dict[str, Shape] = field(default_factory=dict)
    unexpected: dict[str, Shape] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def unexplained_missing(self) -> list[str]:
        """Names that are missing without a reason."""
        return [name for name in self.missing if name not in self.reasons]

    @property
    def unexplained_unexpected(self) -> list[str]:
        """Names that are unexpected without a reason."""
        return [name for name in self.unexpected if name not in self.reasons]

    def check(self, allow_missing: bool = False, allow_unexpected: bool = False) -> None:
        """Make sure that nothing is missing or dropped without a reason.

        Raises:
            CheckpointError: something is, and it is not allowed.
        """
        complaints = []
        if self.unexplained_missing and not allow_missing:
            complaints.append(
                f'the checkpoint lacks {shorten_list(self.unexplained_missing)}: take a complete one, or '
                'allow it (--allow-missing, allow_missing=True): these keep their initialisation'
            )
        if self.unexplained_unexpected and not allow_unexpected:
            complaints.append(
                f'the model has no place for {shorten_list(self.unexplained_unexpected)}: take a '
                'checkpoint of this model, or allow it (--allow-unexpected, '
                'allow_unexpected=True): these are dropped'
            )
        if complaints:
            raise CheckpointError(f'{self.source}: ' + '; '.join(complaints))

    def __str__(self) -> str:
        lines = [f'{self.source}: layout {self.layout!r}']
        lines += [f'  {note}' for note in self.notes]
        lines.append(f'matched: {len(self.matched)}')
        for name, (origin, shape) in self.matched.items():
            lines.append(f'  {origin} -> {name} {shape}' if origin != name else f'  {name} {shape}')
        for title, names in (('missing', self.missing), ('unexpected', self.unexpected)):
            lines.append(f'{title}: {len(names)}')
            for name, shape in names.items():
                reason = f': {self.reasons[name]}' if name in self.reasons else ''
                lines.append(f'  {name} {shape}{reason}')
        return '\n'.join(lines)


def compare(report: Report, origins: Mapping[str, tuple[str, Shape]], wanted: Mapping[str, Shape]) -> None:
    """Fill ``matched``, ``missing`` and ``unexpected`` of a report.

    Args:
        report: what is filled.
        origins: name in the model -> (name in the checkpoint, shape there).
        wanted: name -> shape of the model.

    Raises:
        CheckpointError: a tensor has another shape than the model's; nothing is cut to fit.
    """
    clashes = []
    for name, (origin, shape) in origins.items():
        if name not in wanted:
            report.unexpected[origin] = shape
        elif shape == wanted[name] or _resizable(name, shape, wanted[name]):
            report.matched[name] = (origin, shape)
        else:
            clashes.append(f'{origin} is {shape}, the model wants {wanted[name]}')
    for name, shape in wanted.items():
        if name not in origins:
            report.missing[name] = shape
    if clashes:
        more = f' (and {len(clashes) - 3} more)' if len(clashes) > 3 else ''
        raise CheckpointError(
            f'{report.source} does not fit: {"; ".join(clashes[:3])}{more}. Take one of this '
            'width, patch size and number of classes, or set the model to those of the checkpoint'
        )


def _resizable(name: str, shape: Shape, wanted: Shape) -> bool:
    # A learned position table resizes itself on loading, one of frames as well.
    tables = ('global_position.table', 'temporal_position.table')
    return name.endswith(tables) and shape[::2] == wanted[::2] and len(shape) == 3
