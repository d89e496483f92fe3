"""Findings of a check of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar('Item')
Result = TypeVar('Result')


@dataclass(frozen=True, order=True)
class Finding:
    """One remark about one file or folder.

    Args:
        path: the file or folder.
        kind: what is the matter, in words that files of the same fate share.
        detail: the particulars, and what to do.
        is_fault: False for a note: training is right with it, though it may not be what was meant.
    """

    path: str
    kind: str
    detail: str = ''
    is_fault: bool = True

    def __str__(self) -> str:
        """Return the line that names the file."""
        return f'{self.path}: {self.detail}' if self.detail else self.path


@dataclass
class CheckReport:
    """Everything a check has to tell.

    Args:
        findings: faults and notes.
        facts: sentences about the data set as a whole.
    """

    findings: list[Finding] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong; notes do not count."""
        return not any(finding.is_fault for finding in self.findings)

    def counts(self, faults: bool = True) -> dict[str, int]:
        """Return how many faults, or notes, there are of every kind, the most frequent first."""
        kinds = Counter(finding.kind for finding in self.findings if finding.is_fault == faults)
        return dict(kinds.most_common())

    def extend(self, other: CheckReport) -> None:
        """Add what another check found."""
        self.findings += other.findings
        self.facts += other.facts

    def text(self, max_lines: int | None = None) -> str:
        """Return the findings by kind, the faults first, then the facts and the verdict.

        Args:
            max_lines: most files to list of a kind; counts are of all.
        """
        lines = []
        for is_fault, name in ((True, 'fault'), (False, 'note')):
            for kind, count in self.counts(is_fault).items():
                of_kind = sorted(f for f in self.findings if (f.kind, f.is_fault) == (kind, is_fault))
                lines.append(f'{name}: {kind} ({count})')
                lines += [f'  {finding}' for finding in of_kind[:max_lines]]
                if max_lines is not None and count > max_lines:
                    lines.append(f'  ... and {count - max_lines} more')
        lines += [*([''] if lines else []), *self.facts]
        kinds = ', '.join(f'{count} {kind}' for kind, count in self.counts().items())
        lines.append('sound' if self.is_sound else f'NOT sound: {kinds}')
        return '\n'.join(lines)


def check_each(
    check: Callable[[Item], Result], items: Sequence[Item], workers: int = 1, title: str | None = None
) -> Iterable[Result]:
    """Yield the results of a check of every item, in order, made by threads.

    Reading files and decoding images leave Python's lock to others, so that threads suffice.

    Args:
        check: function of one item.
        items: what to check.
        workers: number of threads.
        title: what the progress bar on stderr is called; None shows none.
    """
    with ThreadPoolExecutor(workers) as pool:
        yield from track(
            pool.map(check, items),
            description=title or '',
            total=len(items),
            console=Console(stderr=True),
            disable=title is None,
        )
