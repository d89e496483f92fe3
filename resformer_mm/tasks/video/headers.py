"""Number of frames that the header of a video file announces, read without a decoder.

decord takes memory for as many, and ends the process if there is not enough.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

_CONTAINERS = (b'moov', b'trak', b'mdia', b'minf', b'stbl')
_AVI_HEADER = 2**16
_MOST_BOXES = 10_000


def has_false_count(path: str) -> bool:
    """Whether an AVI or MP4 file announces more frames than it has bytes."""
    with open(path, 'rb') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(_AVI_HEADER)
        counts = _avi_counts(start) if start[:4] == b'RIFF' else _mp4_counts(file, 0, size)
        return any(count > size for count in counts)


def _avi_counts(header: bytes) -> Iterator[int]:
    """Yield the lengths of all streams; those of sound count bytes or blocks of them."""
    place = header.find(b'strh')
    while place >= 0:
        if header[place + 8 : place + 12] == b'vids' and place + 44 <= len(header):
            yield int.from_bytes(header[place + 40 : place + 44], 'little')
        place = header.find(b'strh', place + 4)


def _mp4_counts(file: BinaryIO, start: int, end: int) -> Iterator[int]:
    """Yield the number of samples in the time table of every track, from the boxes in a part of the file."""
    pending, boxes = [(start, end)], 0
    while pending and boxes < _MOST_BOXES:
        place, end = pending.pop()
        while place + 8 <= end and boxes < _MOST_BOXES:
            boxes += 1
            file.seek(place)
            length, kind = struct.unpack('>I4s', file.read(8).ljust(8, b'\0'))
            inside = place + 8
            if length == 1:
                length = int.from_bytes(file.read(8), 'big')
                inside += 8
            after = place + length if length >= 8 else end  # 0: up to the end
            if kind in _CONTAINERS:
                pending.append((inside, min(after, end)))
            elif kind == b'stts':
                yield _samples(file.read(min(after - inside, 2**24)))
            place = after


def _samples(table: bytes) -> int:
    """Return the sum of the counts in a time table, whose entries are a count and a duration."""
    entries = min(int.from_bytes(table[4:8], 'big'), (len(table) - 8) // 8)
    return (
        sum(count for count, _ in struct.iter_unpack('>II', table[8 : 8 + 8 * entries])) if entries > 0 else 0
    )
