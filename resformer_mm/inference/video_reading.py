"""Frames of video files one after another, by OpenCV or PyAV, and the codecs of files that neither reads."""

from __future__ import annotations

import importlib
import mmap
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Protocol

import mmcv
import numpy as np

from resformer_mm.compat.error_stream import taken_from_stderr
from resformer_mm.compat.quiet import is_quiet
from resformer_mm.repairs import remark

# Four characters in the description of a track of an MP4 file that is not a video.
_NOT_VIDEO = (b'mp4a', b'ac-3', b'ec-3', b'Opus', b'fLaC', b'alac', b'tx3g', b'text', b'tmcd', b'samr')
_CODEC_NAMES = {'av01': 'AV1', 'avc1': 'H.264', 'hvc1': 'HEVC', 'hev1': 'HEVC', 'vp09': 'VP9', 'vvc1': 'VVC'}
# What FFmpeg inside OpenCV writes about a damaged frame, several lines for each.
_FFMPEG_LINE = re.compile(rb'\[[\w,]+ @ \w+\] |    Last message repeated')
NO_DECODER = 'cannot decode here'
"""Part of the reason that :func:`missing_decoder` gives."""


class FrameReader(Protocol):
    """Iterator over the frames of a video, BGR uint8 ``(H, W, 3)``.

    Attributes:
        fps: frames per second in the header.
        frame_cnt: number of frames in the header; 0 if it does not say.
    """

    fps: float
    frame_cnt: int

    def __iter__(self) -> Iterator[np.ndarray]: ...


class VideoError(ValueError):
    """A video that cannot be read; the message is the reason."""


def open_video(path: str) -> FrameReader:
    """Open a video file with OpenCV, or with PyAV if OpenCV does not know the codec.

    Raises:
        VideoError: neither can read it.
    """
    reader = _OpenCVFrames(path)
    if next(iter(reader), None) is not None:
        return _OpenCVFrames(path)  # at the first frame again
    if find_spec('av'):
        found = _PyAVFrames(path)
        if next(iter(found), None) is not None:
            return found
    reason = missing_decoder(path)
    if reason is None:
        reason = 'cannot read any frame' if reader.opened else 'not a video'
        reason += ': repair or replace the file'
    raise VideoError(reason)


class _OpenCVFrames:
    """The frames of a video, read by OpenCV. In tools, one line says that the decoder reports damage."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reader = mmcv.VideoReader(path, cache_capacity=1)  # by default it keeps ten frames
        self.opened = self._reader.opened
        self.fps, self.frame_cnt = self._reader.fps, self._reader.frame_cnt

    def __iter__(self) -> Iterator[np.ndarray]:
        read = self._read_quietly if is_quiet() else self._reader.read
        while self.opened and (frame := read()) is not None:
            yield frame

    def _read_quietly(self) -> np.ndarray | None:
        with taken_from_stderr(_FFMPEG_LINE) as lines:
            frame = self._reader.read()
        if lines:
            line = re.sub(r'^\[([\w,]+) @ \w+\]', r'\1:', lines[0])
            what = f'the decoder reports damage, so frames may be wrong or missing ({line})'
            remark(self._path, what, key=f'{self._path}: damage')
        return frame


class _PyAVFrames:
    """The frames of a video, read by PyAV. A file that is cut off ends early."""

    def __init__(self, path: str) -> None:
        self._av: Any = importlib.import_module('av')
        self._path = path
        self.fps, self.frame_cnt = 0.0, 0
        try:
            with self._av.open(path) as container:
                if container.streams.video:
                    stream = container.streams.video[0]
                    self.fps, self.frame_cnt = float(stream.average_rate or 0), int(stream.frames)
        except (self._av.error.FFmpegError, ValueError):
            pass

    def __iter__(self) -> Iterator[np.ndarray]:
        try:
            with self._av.open(self._path) as container:
                for frame in container.decode(video=0) if container.streams.video else ():
                    yield frame.to_ndarray(format='bgr24')
        except (self._av.error.FFmpegError, ValueError):
            return


def missing_decoder(path: str) -> str | None:
    """Return which codec has no decoder here and what to do, given a file that cannot be decoded.

    None means that the file does not name its codec.
    """
    codec = codec_of(path)
    if codec is None:
        return None
    has_av = find_spec('av') is not None
    tried, remedy = ('PyAV and OpenCV', '') if has_av else ('OpenCV', 'install PyAV (pip install av), or ')
    name = _CODEC_NAMES.get(codec, codec)
    return f'codec {name}, which {tried} {NO_DECODER}: {remedy}convert the file to H.264, for example'


def codec_of(path: str) -> str | None:
    """Return the codec that a container of MP4 or Matroska names for its video, such as 'av01'; else None."""
    with open(path, 'rb') as file:
        if not file.read(1):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for match in re.finditer(rb'stsd.{12}(\w[\w-]{3})', content, re.DOTALL):
                if match[1] not in _NOT_VIDEO:
                    return match[1].decode('ascii', 'replace')
            if content[:4] == b'\x1aE\xdf\xa3':
                found = re.search(rb'V_([A-Z0-9/]+)', content[: 1 << 16])
                return None if found is None else found[1].decode('ascii')
    return None
