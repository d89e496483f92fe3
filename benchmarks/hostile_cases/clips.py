"""Hostile videos."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from resformer_mm.inference.video_reading import open_video
from resformer_mm.tasks.video.files import ClipReader

from .case import HARMLESS, Case, written

FRAMES = 6
LIMIT = 'OPENCV_IO_MAX_IMAGE_PIXELS'


@cache
def video(suffix: str, codec: str, side: int = 32, number: int = FRAMES) -> bytes:
    """Return a video of black frames."""
    with TemporaryDirectory() as folder:
        path = Path(folder, f'a{suffix}')
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, (side, side))
        for _ in range(number):
            writer.write(np.zeros((side, side, 3), np.uint8))
        writer.release()
        return path.read_bytes()


def changed(
    content: Callable[[], bytes], mark: bytes, offset: int, form: str, value: int
) -> Callable[[Path], bytes]:
    """Return a function that returns a video with one number in its header changed."""

    def make(folder: Path) -> bytes:
        changed = bytearray(content())
        struct.pack_into(form, changed, changed.index(mark) + offset, value)
        return bytes(changed)

    return make


def avi() -> bytes:
    """Return an AVI file."""
    return video('.avi', 'MJPG')


def mp4() -> bytes:
    """Return an MP4 file."""
    return video('.mp4', 'mp4v')


def read_clip(path: Path) -> str:
    """Read all frames at once, as training does, and one after another, as the demo does."""
    reader = ClipReader(str(path), timeout=20)
    shape = reader.frames(range(len(reader))).shape
    return f'{shape}, then {sum(1 for _ in open_video(str(path)))} frames'


def large_frames(folder: Path) -> Path:
    """Write a video with frames that are large for the limit of :func:`read_limited`."""
    (folder / 'large.avi').write_bytes(video('.avi', 'MJPG', 512, 12))
    return folder / 'large.avi'


def read_limited(path: Path) -> str:
    """Read a clip with a low limit, because a video for the usual one takes minutes to write."""
    before = os.environ.get(LIMIT)
    os.environ[LIMIT] = str(2**21)
    try:
        return read_clip(path)
    finally:
        os.environ.pop(LIMIT)
        if before is not None:
            os.environ[LIMIT] = before


def clip(name: str, content: bytes | Callable[[Path], bytes], attack: str, *outcome: str) -> Case:
    """Return the case of a video file."""
    return Case('video', name, attack, written(name.split(' ')[0], content), read_clip, *outcome)


_COUNT = 'more frames than the file has bytes'
CASES = (
    clip(
        'frames.avi (2^32 - 1 frames)',
        changed(avi, b'avih', 24, '<I', 2**32 - 1),
        'fills the memory',
        HARMLESS,
    ),
    clip(
        'stream.avi (stream of 2^32 - 1)',
        changed(avi, b'strh', 40, '<I', 2**32 - 1),
        'ends the process',
        'refused',
        _COUNT,
    ),
    clip(
        'size.avi (65535 pixels wide)', changed(avi, b'strf', 12, '<i', 65535), 'fills the memory', HARMLESS
    ),
    clip('rate.avi (rate 0)', changed(avi, b'strh', 32, '<I', 0), 'divides by zero', HARMLESS),
    clip('cut.avi', lambda _: avi()[: len(avi()) // 2], 'crashes the process'),
    clip(
        'times.mp4 (2^32 - 1 times)',
        changed(mp4, b'stts', 12, '>I', 2**32 - 1),
        'ends the process',
        'refused',
        _COUNT,
    ),
    clip('samples.mp4 (2^31 sizes)', changed(mp4, b'stsz', 12, '>I', 2**31), 'fills the memory'),
    clip('cut.mp4', lambda _: mp4()[: len(mp4()) // 2], 'crashes the process'),
    clip(
        'list.mp4 (playlist of /etc/passwd)',
        b'#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n',
        'reads another file',
    ),
    clip('join.mp4 (list of files)', b'ffconcat version 1.0\nfile /etc/passwd\n', 'reads another file'),
    Case(
        'video',
        'large.avi (12 frames of 512 x 512, limit 2^21)',
        'fills the memory',
        large_frames,
        read_limited,
        'refused',
        'frames too large',
    ),
)
