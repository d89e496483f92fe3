"""Lists of files with one label each, ``PATH LABEL`` per line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mmengine import fileio

from resformer_mm.repairs import repair

NO_LABEL = 'line without a label'
BAD_LABEL = 'label is not a number'
OUT_OF_RANGE = 'label out of range'

COUNTS_FROM_ONE = (
    'the labels run from 1 to {number}, so they seem to count from 1: subtract 1 from every label, or add '
    'the missing class 0'
)


class LabelListError(ValueError):
    """A file that is not a list of files with labels. The message names the file and a remedy."""


@dataclass(frozen=True)
class ListedFile:
    """One line of a list.

    Attributes:
        line: its number, from 1.
        path: the path as written in the line.
        label: the label, at least 0.
    """

    line: int
    path: str
    label: int


@dataclass(frozen=True)
class BadLine:
    """A line that cannot be used.

    Attributes:
        line: its number, from 1.
        kind: the kind of problem.
        detail: details, and what to do.
    """

    line: int
    kind: str
    detail: str


@dataclass(frozen=True)
class _Line:
    """A line whose path and label were separated; ``label`` is None if it has one part alone."""

    number: int
    path: str
    label: str | None


def read_label_list(
    path: str,
    num_classes: int | None = None,
    delimiter: str | None = None,
    classes: Sequence[str] | None = None,
    backend_args: dict | None = None,
) -> tuple[list[ListedFile], list[BadLine]]:
    """Read a list; return the valid lines and the invalid ones.

    The label follows the last delimiter, so paths may contain spaces. Where every label is the name of a
    class, the names are replaced by their numbers. Repaired are a byte order mark, quotes around paths,
    commas between path and label in all lines, and a header before such lines. Empty lines are ignored.

    Args:
        path: the list file.
        num_classes: number of classes; None accepts every label of at least 0.
        delimiter: separator between path and label; None means white space.
        classes: names of the classes, if they are known.
        backend_args: file backend of MMEngine.

    Raises:
        LabelListError: the file is not a text file.
        StrictError: something has to be repaired, which strict mode refuses.
    """
    lines = _split(path, read_lines(path, backend_args), delimiter)
    numbers = {name: str(label) for label, name in enumerate(classes or ())}
    if lines and len(numbers) == len(classes or ()) and all(line.label in numbers for line in lines):
        lines = [replace(line, label=numbers[line.label or '']) for line in lines]
    listed, bad = [], []
    for line in lines:
        problem = _problem(line, num_classes)
        if problem is not None:
            bad.append(BadLine(line.number, *problem))
        else:
            listed.append(ListedFile(line.number, line.path, int(line.label or 0)))
    return listed, _explain(lines, bad, num_classes)


def read_lines(path: str, backend_args: dict | None = None) -> list[str]:
    """Return the lines of a text file, without a byte order mark.

    Raises:
        LabelListError: the file is not UTF-8 text.
    """
    try:
        text = fileio.get_text(path, backend_args=backend_args)
    except UnicodeDecodeError as error:
        raise LabelListError(f'{path} is not UTF-8 text ({error}): save it in this encoding') from error
    if text.startswith('\ufeff'):
        repair(path, 'byte order mark: not part of the first line')
    # Not splitlines, which also splits at characters that file names may contain.
    return [line.rstrip('\r') for line in text.lstrip('\ufeff').split('\n')]


def labels_without_zero(labels: Sequence[int]) -> bool:
    """Whether labels are all numbers from 1 to their largest, as if counted from 1."""
    return bool(labels) and set(labels) == set(range(1, max(labels) + 1))


def _split(path: str, texts: Sequence[str], delimiter: str | None) -> list[_Line]:
    """Separate path and label of all lines that are not empty."""
    lines = [(number, text.strip()) for number, text in enumerate(texts, 1) if text.strip()]
    if delimiter is None and (by_commas := _split_at_commas(path, lines)) is not None:
        return by_commas
    found, quoted = [], 0
    for number, text in lines:
        parts = [part.strip() for part in text.rsplit(delimiter, 1)]
        name, label = parts if len(parts) == 2 and all(parts) else (text, None)
        if label is not None and _is_quoted(name):
            name, quoted = name[1:-1], quoted + 1
        found.append(_Line(number, name, label))
    if quoted:
        repair(path, 'paths in quotes: the quotes are not part of the path', quoted)
    return found


def _split_at_commas(path: str, lines: Sequence[tuple[int, str]]) -> list[_Line] | None:
    """Separate the parts of ``PATH,LABEL``; None unless all lines are such lines, but for a header."""
    pattern = re.compile(r'(.*\S)\s*[,;]\s*(\S+)')
    found = [(number, pattern.fullmatch(text)) for number, text in lines]
    if not found or not all(match for _, match in found):
        return None
    split = [_Line(number, _unquoted(match[1]), _unquoted(match[2])) for number, match in found if match]
    header = len(split) > 1 and not _is_number(split[0].label) and _is_number(split[1].label)
    if header and '.' not in split[0].path:
        repair(path, f'header line {lines[0][1]!r}: left out')
        split = split[1:]
    repair(path, 'lines with a comma between path and label: read as `PATH LABEL`', len(split))
    return split


def _problem(line: _Line, num_classes: int | None) -> tuple[str, str] | None:
    if line.label is None:
        return NO_LABEL, f'{line.path!r} is not `PATH LABEL`'
    if not _is_number(line.label):
        # Either a path with spaces and no label, or a label in words.
        return BAD_LABEL, f'{line.label!r} of {line.path!r} is not an integer'
    label = int(line.label)
    if label < 0 or (num_classes is not None and label >= num_classes):
        valid = '0 or more' if num_classes is None else f'in 0 to {num_classes - 1}'
        return OUT_OF_RANGE, f'{label} of {line.path!r} is not {valid}'
    return None


def _explain(lines: Sequence[_Line], bad: list[BadLine], num_classes: int | None) -> list[BadLine]:
    """Add the likely reason to the first label that is too large by one."""
    if num_classes is None or not bad or any(line.kind != OUT_OF_RANGE for line in bad):
        return bad
    labels = {int(line.label or 0) for line in lines}
    if min(labels) != 1 or max(labels) != num_classes:
        return bad
    detail = f'{bad[0].detail}; {COUNTS_FROM_ONE.format(number=num_classes)}'
    return [replace(bad[0], detail=detail), *bad[1:]]


def _is_number(text: str | None) -> bool:
    return text is not None and re.fullmatch(r'-?\d+', text) is not None


def _is_quoted(text: str) -> bool:
    return len(text) > 2 and text[0] == text[-1] and text[0] in '\'"'


def _unquoted(text: str) -> str:
    return text[1:-1] if _is_quoted(text) else text
