"""Findings of a check of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from resformer_mm.control_characters import printable, printable_name
from resformer_mm.progress import track

Item = TypeVar('Item')
Result = TypeVar('Result')
REPAIRED = 'repaired on reading'
MOST_CLASSES = 20
FEWEST = 5


@dataclass(frozen=True, order=True)
class Finding:
    """One remark about one file or folder.

    Args:
        path: the file or folder.
        kind: the kind of finding, by which findings are grouped.
        detail: details, and what to do.
        is_fault: False for a note: training works, but the data may not be as intended.
    """

    path: str
    kind: str
    detail: str = ''
    is_fault: bool = True

    def __str__(self) -> str:
        """Return the line of the file."""
        path = printable_name(self.path)
        detail = printable(self.detail).replace('\n', '\\n')
        return f'{path}: {detail}' if detail else path


@dataclass
class CheckReport:
    """Findings and facts of a check.

    Args:
        findings: faults and notes.
        facts: sentences about the data set as a whole.
        counts_per_class: what is counted, e.g. 'data/train: images' -> class -> number.
        sizes: folder -> sizes of its images, (height, width) in pixels.
    """

    findings: list[Finding] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    counts_per_class: dict[str, dict[str, int]] = field(default_factory=dict)
    sizes: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong; notes do not count."""
        return not any(finding.is_fault for finding in self.findings)

    def counts(self, faults: bool = True) -> dict[str, int]:
        """Return the number of faults, or of notes, by kind, the most frequent first."""
        kinds = Counter(finding.kind for finding in self.findings if finding.is_fault == faults)
        return dict(kinds.most_common())

    def extend(self, other: CheckReport) -> None:
        """Add the findings and facts of another report."""
        self.findings += other.findings
        self.facts += other.facts
        self.counts_per_class.update(other.counts_per_class)
        self.sizes.update(other.sizes)

    def text(self, max_lines: int | None = None, details: bool = False) -> str:
        """Return the findings by kind, the faults first, then the facts and the verdict.

        Args:
            max_lines: files to list per kind; all are counted.
            details: also the counts per class and the sizes.
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
        if details:
            lines += [_counts_text(where, counts) for where, counts in self.counts_per_class.items()]
            lines += [_sizes_text(where, sizes) for where, sizes in self.sizes.items() if sizes]
        kinds = ', '.join(f'{count} {kind}' for kind, count in self.counts().items())
        lines.append('sound' if self.is_sound else f'NOT sound: {kinds}')
        return printable('\n'.join(lines))


def _counts_text(where: str, counts: dict[str, int]) -> str:
    """Return the number of every class, or of many classes the extremes."""
    if len(counts) <= MOST_CLASSES:
        return f'{where} per class: {", ".join(f"{name} {number}" for name, number in counts.items())}'
    numbers = sorted(counts.values())
    rare = sorted(counts, key=lambda name: counts[name])[:FEWEST]
    return (
        f'{where} per class: {numbers[0]} to {numbers[-1]}, median {numbers[len(numbers) // 2]}; fewest: '
        f'{", ".join(f"{name} {counts[name]}" for name in rare)}'
    )


def _sizes_text(where: str, sizes: Sequence[tuple[int, int]]) -> str:
    """Return the smallest and the largest size by area, and how many sizes there are."""
    smallest, largest = (choose(sizes, key=lambda size: size[0] * size[1]) for choose in (min, max))
    number = len(set(sizes))
    several = f'{number} sizes, from {smallest[0]} x {smallest[1]} to' if number > 1 else 'all'
    return f'{where}: {several} {largest[0]} x {largest[1]} (height x width)'


def check_each(
    check: Callable[[Item], Result], items: Sequence[Item], workers: int = 1, title: str | None = None
) -> Iterable[Result]:
    """Check every item in a pool of threads; yield the results in order.

    Threads suffice, since reading files and decoding images release Python's global lock.

    Args:
        check: function of one item.
        items: the items to check.
        workers: number of threads.
        title: title of the progress display; None for none.
    """
    with ThreadPoolExecutor(workers) as pool:
        yield from track(pool.map(check, items), title or '', len(items), title is not None)
