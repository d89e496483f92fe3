"""Report of matched, missing and unexpected tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from resformer_mm.control_characters import printable
from resformer_mm.text import shorten_list

from .reading import CheckpointError

Shape = tuple[int, ...]
OWN_START = 'starts from its own initialisation'


@dataclass
class Report:
    """Names of a checkpoint against names of a model.

    Attributes:
        source: the file, for messages.
        layout: 'resformer' (published), 'resformer_mm' (this project), 'timm' (DeiT, ViT) or another library.
        matched: name of the model -> (name in the checkpoint, shape).
        missing: name of the model that the checkpoint lacks -> shape.
        unexpected: name in the checkpoint that the model does not have -> shape.
        reasons: name -> why it may be missing or unexpected.
        absent: start of names of the model -> why the checkpoint may lack them.
        notes: further remarks.
    """

    source: str
    layout: str
    matched: dict[str, tuple[str, Shape]] = field(default_factory=dict)
    missing: dict[str, Shape] = field(default_factory=dict)
    unexpected: dict[str, Shape] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def is_foreign(self) -> bool:
        """Whether the checkpoint is of a ViT, which has neither GPE nor LPE."""
        return self.layout not in ('resformer', 'resformer_mm')

    @property
    def unexplained_missing(self) -> list[str]:
        """Names that are missing without a reason."""
        return [name for name in self.missing if name not in self.reasons]

    @property
    def unexplained_unexpected(self) -> list[str]:
        """Names that are unexpected without a reason."""
        return [name for name in self.unexpected if name not in self.reasons]

    def explain_missing(self) -> None:
        """Give reasons for what a ViT of another library does not have."""
        for name in self.missing:
            if self.is_foreign and ('.global_position.' in name or '.local_position.' in name):
                self.reasons[name] = OWN_START
            for start, reason in self.absent.items():
                if name.startswith(start):
                    self.reasons[name] = reason

    def check(self, allow_missing: bool = False, allow_unexpected: bool = False) -> None:
        """Check that nothing is missing or unexpected without a reason.

        Raises:
            CheckpointError: something is, and the arguments do not allow it; or nothing matches.
        """
        if not self.matched:
            raise CheckpointError(
                f'{self.source} has no tensor of the model, but {shorten_list(self.unexpected) or "none"}: '
                'use one of this kind of model'
            )
        complaints = []
        if self.unexplained_missing and not allow_missing:
            complaints.append(
                f'the checkpoint lacks {shorten_list(self.unexplained_missing)}: use a complete one, or keep '
                'their initialisation, with allow_missing=True of PretrainedResFormer or --allow-missing of '
                'the converter'
            )
        if self.unexplained_unexpected and not allow_unexpected:
            complaints.append(
                f'the model has no place for {shorten_list(self.unexplained_unexpected)}: use a checkpoint '
                'of this model, or drop them, with partial=True of PretrainedResFormer or --allow-unexpected '
                'of the converter'
            )
        if complaints:
            raise CheckpointError(f'{self.source}: ' + '; '.join(complaints))

    def summary(self) -> str:
        """Return in one line what is loaded, what keeps its initialisation and what is left out."""
        number = len(self.matched)
        line = f'{self.source}: {number} of {number + len(self.missing)} tensors of the model are loaded'
        if self.layout != 'resformer_mm':
            line += f', with their names translated ({self.layout})'
        for title, names in (('with their initialisation', self.missing), ('left out', self.unexpected)):
            if names:
                line += f'. {len(names)} {title}: {self._by_reason(names)}'
        return line

    def _by_reason(self, names: Iterable[str]) -> str:
        """Return names with the reasons that they share, one after another."""
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(self.reasons.get(name, OWN_START), []).append(name)
        return '; '.join(
            shorten_list(group) + ('' if reason == OWN_START else f' ({reason})')
            for reason, group in groups.items()
        )

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
        return printable('\n'.join(lines))


def compare(report: Report, origins: Mapping[str, tuple[str, Shape]], wanted: Mapping[str, Shape]) -> None:
    """Fill ``matched``, ``missing`` and ``unexpected`` of a report.

    Args:
        report: the report to fill.
        origins: name in the model -> (name in the checkpoint, shape there).
        wanted: name -> shape of the model.

    Raises:
        CheckpointError: the shape of a tensor differs from the model's; tensors are never cut.
    """
    clashes = []
    for name, (origin, shape) in origins.items():
        if name not in wanted:
            report.unexpected[origin] = shape
        elif shape == wanted[name] or _resizable(name, shape, wanted[name]):
            report.matched[name] = (origin, shape)
        else:
            clashes.append(f'{origin} has shape {shape}, the model needs {wanted[name]}')
    for name, shape in wanted.items():
        if name not in origins:
            report.missing[name] = shape
    if clashes:
        more = f' (and {len(clashes) - 3} more)' if len(clashes) > 3 else ''
        raise CheckpointError(
            f'{report.source} does not fit: {"; ".join(clashes[:3])}{more}. Use one with the '
            'width, patch size and number of classes of the model, or change these in the config'
        )


def _resizable(name: str, shape: Shape, wanted: Shape) -> bool:
    # Learned position tables, of patches and of frames, resize themselves on loading.
    tables = ('global_position.table', 'temporal_position.table')
    return name.endswith(tables) and shape[::2] == wanted[::2] and len(shape) == 3
