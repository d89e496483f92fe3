"""Lists of video files and their labels, one ``PATH LABEL`` a line, as Kinetics has them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmengine import fileio

NO_LABEL = 'line without a label'
BAD_LABEL = 'label that is no number'
OUT_OF_RANGE = 'label out of range'


class ClipListError(ValueError):
    """A file that is no list of clips; the message names it and what to do."""


@dataclass(frozen=True)
class ListedClip:
    """One line of a list.

    Attributes:
        line: its number, from 1.
        path: the file, as the line has it.
        label: the label, 0 or more.
    """

    line: int
    path: str
    label: int


@dataclass(frozen=True)
class BadLine:
    """A line that cannot be used.

    Attributes:
        line: its number, from 1.
        kind: what is the matter.
        detail: the particulars.
    """

    line: int
    kind: str
    detail: str


def read_clip_list(
    path: str, num_classes: int | None = None, delimiter: str | None = None, backend_args: dict | None = None
) -> tuple[list[ListedClip], list[BadLine]]:
    """Read a list; return the lines that can be used and those that cannot. Empty lines do not count.

    The label stands behind the last delimiter, so that paths may have spaces.

    Args:
        path: the list file.
        num_classes: number of classes; None lets every label pass that is not negative.
        delimiter: what stands between path and label; None stands for white space.
        backend_args: file backend of MMEngine.

    Raises:
        ClipListError: the file is no text.
    """
    try:
        # Some editors put a mark before the first line, which belongs to no path.
        lines = fileio.list_from_file(path, encoding='utf-8-sig', backend_args=backend_args)
    except UnicodeDecodeError as error:
        raise ClipListError(f'{path} is no text in UTF-8 ({error}): save it as such') from error
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
            # A path without a label that has spaces itself, or a label in words.
            bad.append(BadLine(number, BAD_LABEL, f'{label!r} of {name!r} is no integer'))
        elif int(label) < 0 or (num_classes is not None and int(label) >= num_classes):
            bound = 'or more' if num_classes is None else f'to {num_classes - 1}'
            bad.append(BadLine(number, OUT_OF_RANGE, f'{label} of {name!r} does not lie in 0 {bound}'))
        else:
            clips.append(ListedClip(number, name, int(label)))
    return clips, bad
