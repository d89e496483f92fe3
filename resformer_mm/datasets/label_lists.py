"""Lists of files with one label each, ``PATH LABEL`` per line."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from resformer_mm.repairs import repair

from .regular_files import read_file

NO_LABEL = 'line without a label'
BAD_LABEL = 'label is not a number'
OUT_OF_RANGE = 'label out of range'
# Only so many files of a list are looked for: on a remote disk, each takes milliseconds.
PROBES = 16
# Those of UTF-32 first, because one of them begins like one of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: 'utf-32',
    codecs.BOM_UTF32_BE: 'utf-32',
    codecs.BOM_UTF16_LE: 'utf-16',
    codecs.BOM_UTF16_BE: 'utf-16',
}

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
    class, the names are replaced by their numbers. Repaired are another encoding of Unicode, a byte order
    mark, quotes around paths, commas between path and label in all lines, a header before them, and labels
    such as 1.0 in all lines. Empty lines are ignored.

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
    if len(lines) > 1 and all(line.label in numbers for line in lines[1:]) and _is_header(lines[0], numbers):
        repair(path, f'header line {f"{lines[0].path} {lines[0].label}"!r}: left out')
        lines = lines[1:]
    if lines and len(numbers) == len(classes or ()) and all(line.label in numbers for line in lines):
        lines = [replace(line, label=numbers[line.label or '']) for line in lines]
    if lines and all(re.fullmatch(r'\d+\.0+', line.label or '') for line in lines):
        repair(path, 'labels written as a fraction with .0: read as numbers', len(lines))
        lines = [replace(line, label=(line.label or '').partition('.')[0]) for line in lines]
    listed, bad = [], []
    for line in lines:
        problem = _problem(line, num_classes)
        if problem is not None:
            bad.append(BadLine(line.number, *problem))
        else:
            listed.append(ListedFile(line.number, line.path, int(line.label or 0)))
    return listed, _explain(lines, bad, num_classes)


def read_local_list(
    path: str,
    folder: str,
    num_classes: int | None = None,
    delimiter: str | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[list[ListedFile], list[BadLine]]:
    """Read a list as :func:`read_label_list` does, with paths that exist below a local folder if possible."""
    listed, bad = read_label_list(path, num_classes, delimiter, classes)
    found = with_forward_slashes(path, listed, lambda name: os.path.isfile(os.path.join(folder, name)))
    return list(found), bad


def read_lines(path: str, backend_args: dict | None = None) -> list[str]:
    """Return the lines of a text file in any Unicode encoding, without a byte order mark.

    Raises:
        LabelListError: the file is not Unicode text.
    """
    raw = read_file(path, backend_args)
    encoding = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), 'utf-8')
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise LabelListError(f'{path} is not UTF-8 text ({error}): save it in this encoding') from error
    if encoding != 'utf-8':
        name = encoding.upper()
        repair(path, f'encoded in {name}, not UTF-8: read as {name}')
    elif text.startswith('\ufeff'):
        repair(path, 'byte order mark: not part of the first line')
    # Not splitlines, which also splits at characters that file names may contain.
    return [line.rstrip('\r') for line in text.lstrip('\ufeff').split('\n')]


def labels_without_zero(labels: Sequence[int]) -> bool:
    """Whether labels are all numbers from 1 to their largest, as if counted from 1."""
    return bool(labels) and set(labels) == set(range(1, max(labels) + 1))


def clean_class_names(names: Sequence[str], reader: str) -> tuple[str, ...]:
    """Return the names of classes of a data set without blanks around them and without a byte order mark.

    Args:
        names: the names, as MMEngine reads them from a list or a file.
        reader: the data set, for the message.

    Raises:
        ValueError: a name is empty.
    """
    clean = tuple(str(name).lstrip('\ufeff').strip() for name in names)
    if not all(clean):
        raise ValueError(
            f'{reader}: metainfo.classes, or the file that it names, has an empty name: remove it'
        )
    if str(names[0]).startswith('\ufeff'):
        repair('metainfo.classes', 'byte order mark in the file of class names: left out')
    return clean


def with_forward_slashes(
    path: str, listed: Sequence[ListedFile], exists: Callable[[str], bool]
) -> Sequence[ListedFile]:
    """Return the entries of a list, with forward slashes for backslashes where that finds the files.

    Args:
        path: the list file.
        listed: its entries.
        exists: whether there is a file of a path in the list; it is asked for a few of them.

    Raises:
        StrictError: paths have to be repaired, which strict mode refuses.
    """
    marked = [entry for entry in listed if '\\' in entry.path]
    probes = marked[:: max(1, len(marked) // PROBES)]
    if not probes or any(exists(entry.path) for entry in probes):
        return listed
    if not any(exists(_slashes(entry.path)) for entry in probes):
        return listed
    repair(path, 'paths with backslashes: read with forward slashes', len(marked))
    return [replace(entry, path=_slashes(entry.path)) for entry in listed]


def wrong_beginning(path: str, exists: Callable[[str], bool]) -> str | None:
    """Return the beginning of a path without which the file exists; None if there is none.

    Args:
        path: path in a list, which does not exist.
        exists: whether there is a file of such a path.
    """
    parts = _slashes(path).strip('/').split('/')
    tails = ['/'.join(parts[start:]) for start in range(1, len(parts))]
    found = next((tail for tail in tails if exists(tail)), None)
    return None if found is None else path[: len(path) - len(found)]


def unquoted(text: str) -> str:
    """Return a text without the quotes around it."""
    is_quoted = len(text) > 2 and text[0] == text[-1] and text[0] in '\'"'
    return text[1:-1] if is_quoted else text


def _slashes(path: str) -> str:
    return path.replace('\\', '/')


def _split(path: str, texts: Sequence[str], delimiter: str | None) -> list[_Line]:
    """Separate path and label of all lines that are not empty."""
    lines = [(number, text.strip()) for number, text in enumerate(texts, 1) if text.strip()]
    if delimiter is None and (by_commas := _split_at_commas(path, lines)) is not None:
        return by_commas
    found, quoted = list[_Line](), 0
    for number, text in lines:
        parts = [part.strip() for part in text.rsplit(delimiter, 1)]
        name, label = parts if len(parts) == 2 and all(parts) else (text, None)
        if label is not None and unquoted(name) != name:
            name, quoted = unquoted(name), quoted + 1
        found.append(_Line(number, name, label))
    if quoted:
        repair(path, 'paths in quotes: the quotes are not part of the path', quoted)
    return _without_header(path, found, lines[0][1] if lines else '')


def _split_at_commas(path: str, lines: Sequence[tuple[int, str]]) -> list[_Line] | None:
    """Separate the parts of ``PATH,LABEL``; None unless all lines are such lines, but for a header."""
    pattern = re.compile(r'(.*\S)\s*[,;]\s*(\S+)')
    found = [(number, pattern.fullmatch(text)) for number, text in lines]
    if not found or not all(match for _, match in found):
        return None
    split = [_Line(number, unquoted(match[1]), unquoted(match[2])) for number, match in found if match]
    split = _without_header(path, split, lines[0][1])
    repair(path, 'lines with a comma between path and label: read as `PATH LABEL`', len(split))
    return split


def _without_header(path: str, lines: list[_Line], first: str) -> list[_Line]:
    """Return the lines without a header such as ``path label``."""
    has_header = (
        len(lines) > 1
        and _is_header(lines[0])
        and all(re.fullmatch(r'-?\d+(\.0+)?', line.label or '') for line in lines[1:])
    )
    if not has_header:
        return lines
    repair(path, f'header line {first!r}: left out')
    return lines[1:]


def _is_header(line: _Line, known: Collection[str] = ()) -> bool:
    """Whether a line may be a header: two words that are neither a path nor a known label."""
    words = f'{line.label}{line.path}'
    return line.label is not None and line.label not in known and not re.search(r'[0-9./\\]', words)


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
