"""Writing of video files that browsers play."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from resformer_mm.repairs import remark

DEFAULT_FPS = 25.0
RATES = (0.1, 1000.0)
"""Frame rates of real videos. Others are damaged headers, or time units such as 90000."""
_MOST_TICKS = 65535  # of a frame rate in MPEG-4, whose numerator has 16 bits


class _Encoder(Protocol):
    def write(self, frame: np.ndarray) -> None: ...

    def close(self) -> None: ...


def writable_rate(fps: float | None, path: object) -> Fraction:
    """Return a frame rate that video files can have, near the given one.

    A rate that is not that of a video is replaced by 25, and that is told.

    Args:
        fps: frames per second; None, 0, NaN and infinity mean that it is not known.
        path: the file, for the message.
    """
    if fps is not None and math.isfinite(fps) and RATES[0] <= fps <= RATES[1]:
        digits = max(0, math.floor(math.log10(_MOST_TICKS / fps)))
        return Fraction(round(fps * 10**digits), 10**digits)
    if fps is not None:
        remark(path, f'{fps:g} frames per second is not the rate of a video: written with {DEFAULT_FPS:g}')
    return Fraction(DEFAULT_FPS)


class VideoFile:
    """Writer of an MP4 file, frame by frame.

    The codec is H.264 where PyAV is installed, else VP9 where OpenCV can write it. Browsers play both.
    Otherwise it is MPEG-4, and that is told.

    Args:
        path: the file; its folder is created.
        fps: frames per second, see :func:`writable_rate`.

    Raises:
        OSError: no encoder can write the file.
    """

    def __init__(self, path: Path, fps: float | None) -> None:
        self.path = path
        self._fps = writable_rate(fps, path)
        self._encoder: _Encoder | None = None

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, RGB ``(H, W, 3)``. All frames have the same size; odd sides get one pixel more."""
        # The colours have half the resolution, so both sides must be even.
        bottom, right = frame.shape[0] % 2, frame.shape[1] % 2
        if bottom or right:
            frame = np.pad(frame, ((0, bottom), (0, right), (0, 0)), 'edge')
        if self._encoder is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._encoder = self._open(frame)
        self._encoder.write(frame)

    def close(self) -> None:
        """Close the file."""
        if self._encoder is not None:
            self._encoder.close()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self, frame: np.ndarray) -> _Encoder:
        height, width = frame.shape[:2]
        makers: list[Callable[..., _Encoder]] = [_H264, _OpenCV.with_vp9, _OpenCV.with_mpeg4]
        try:
            self.path.open('wb').close()
        except OSError as error:
            raise OSError(f'cannot write the video {self.path}: {error.strerror}') from error
        reasons = []
        for make in makers:
            try:
                return make(str(self.path), self._fps, width, height)
            except ImportError:
                reasons.append('PyAV is not installed (pip install av)')
            except (OSError, ValueError) as error:  # built without the encoder
                reasons.append(str(error))
        raise OSError(f'cannot write the video {self.path}: {"; ".join(reasons)}')


class _H264:
    """H.264 by PyAV."""

    def __init__(self, path: str, fps: Fraction, width: int, height: int) -> None:
        av: Any = importlib.import_module('av')
        av.Codec('libx264', 'w')  # ValueError if it was built without
        self._av = av
        self._container = av.open(path, 'w')
        self._stream = self._container.add_stream('libx264', rate=fps, options={'preset': 'veryfast'})
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = 'yuv420p'

    def write(self, frame: np.ndarray) -> None:
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format='rgb24')
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()


class _OpenCV:
    """A codec of OpenCV."""

    def __init__(self, codec: str, path: str, fps: Fraction, width: int, height: int) -> None:
        with _silent_opencv():
            code = cv2.VideoWriter.fourcc(*codec)
            self._writer = cv2.VideoWriter(path, code, float(fps), (width, height))
        if not self._writer.isOpened():
            raise OSError(f'OpenCV cannot write {codec}')

    @classmethod
    def with_vp9(cls, *args: Any) -> _OpenCV:
        return cls('vp09', *args)

    @classmethod
    def with_mpeg4(cls, *args: Any) -> _OpenCV:
        made = cls('mp4v', *args)
        remark(
            'drawn videos',
            'neither H.264 nor VP9 can be written here, so they are MPEG-4, which browsers do not play: '
            'install PyAV (pip install av)',
        )
        return made

    def write(self, frame: np.ndarray) -> None:
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))

    def close(self) -> None:
        self._writer.release()


@contextmanager
def _silent_opencv() -> Iterator[None]:
    """Keep OpenCV from printing that a codec is missing, which is handled."""
    if not hasattr(cv2, 'setLogLevel'):
        yield
        return
    level = cv2.getLogLevel()
    cv2.setLogLevel(0)
    try:
        yield
    finally:
        cv2.setLogLevel(level)
