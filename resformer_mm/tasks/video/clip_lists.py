"""Parser for Kinetics-style lists of video files, with one ``PATH LABEL`` per line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmengine import fileio

NO_LABEL = 'line without a label'
BAD_LABEL = 'label is not a number'
OUT_OF_RANGE = 'label out of range'


class ClipListError(ValueError):
    """A file that is not a list of clips. The message names the file and a remedy."""


@dataclass(frozen=True)
class ListedClip:
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
        detail: details.
    """

    line: int
    kind: str
    detail: str


def read_clip_list(
    path: str, num_classes: int | None = None, delimiter: str | None = None, backend_args: dict | None = None
) -> tuple[list[ListedClip], list[BadLine]]:
    """Read a list; return the valid lines and the invalid ones. Empty lines are ignored.

    The label follows the last delimiter, so paths may contain spaces.

    Args:
        path: the list file.
        num_classes: number of classes; None accepts every label of at least 0.
        delimiter: separator between path and label; None means white space.
        backend_args: file backend of MMEngine.

    Raises:
        ClipListError: the file is not a text file.
    """
    try:
        # Some editors write a byte order mark, which is not part of the first path.
        lines = fileio.list_from_file(path, encoding='utf-8-sig', backend_args=backend_args)
    except UnicodeDecodeError as error:
        raise ClipListError(f'{path} is not UTF-8 text ({error}): save it in this encoding') from error
    clips, bad = [], []
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        parts = [part.strip() for part in text.strip().rsplit(delimiter, 1)]
        if len(parts) == 1 or not all(parts):
            bad.append(BadLine(number, NO_LABEL, f'{text.strip()!r} is not `PATH LABEL`'))
            continue
        name, label = parts
        if not re.fullmatch(r'-?\d+', label):
            # Either a path with spaces and no label, or a label in words.
            bad.append(BadLine(number, BAD_LABEL, f'{label!r} of {name!r} is not an integer'))
        elif int(label) < 0 or (num_classes is not None and int(label) >= num_classes):
            valid = '0 or more' if num_classes is None else f'in 0 to {num_classes - 1}'
            bad.append(BadLine(number, OUT_OF_RANGE, f'{label} of {name!r} is not {valid}'))
        else:
            clips.append(ListedClip(number, name, int(label)))
    return clips, bad
