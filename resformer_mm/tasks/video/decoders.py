"""Decoders of video files by PyAV and by OpenCV, which take the place of decord.

decord has wheels for few platforms, and none that decodes AV1. All decoders number the frames in display
order, and do not rotate or scale them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import cv2
import numpy as np

from resformer_mm.datasets.image_files import check_size
from resformer_mm.inference.video_reading import missing_decoder

TOO_LARGE = 'pixels are more than the limit'
"""Part of the message about a clip with more pixels than the limit of images."""


class DecodingError(RuntimeError):
    """A file that a decoder cannot open, or whose frames it cannot decode."""


def check_clip_size(frame: np.ndarray, number: int) -> None:
    """Check the pixels of the frames ``(H, W, 3)`` of a clip, of which one was decoded.

    The limit is that of images, see :func:`~resformer_mm.datasets.image_files.check_size`.

    Raises:
        DecodingError: there are too many.
    """
    height, width = frame.shape[:2]
    try:
        check_size(width * number, height)
    except ValueError as error:
        raise DecodingError(f'{number} frames of {width} x {height}: {error}') from error


class Decoder(Protocol):
    """The frames of an open video file."""

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def get_avg_fps(self) -> float:
        """Return the mean number of frames per second."""
        ...

    def get_batch(self, indices: Sequence[int]) -> np.ndarray:
        """Return the frames of increasing indices, RGB uint8 ``(T, H, W, 3)``."""
        ...

    def times(self) -> np.ndarray:
        """Return the start time of every frame in seconds, ``(N,)``."""
        ...


class PyAVDecoder:
    """Decoder by PyAV, whose wheels have the decoders of FFmpeg and dav1d for AV1.

    Args:
        path: the file.
        num_threads: number of threads; 0 lets FFmpeg choose.

    Raises:
        ImportError: PyAV is not installed.
        DecodingError: the file cannot be opened, has no video stream, or its codec is not known.
    """

    def __init__(self, path: str, num_threads: int = 1) -> None:
        self._av: Any = importlib.import_module('av')
        self._path, self._num_threads = path, num_threads
        with self._opened() as container:
            stream = container.streams.video[0]
            stamps, keys = [], []
            try:
                for packet in container.demux(stream):
                    if packet.size and not getattr(packet, 'is_discard', False):
                        stamps.append(packet.dts if packet.pts is None else packet.pts)
                        keys += [packet.pts] if packet.is_keyframe and packet.pts is not None else []
            except self._av.error.FFmpegError:
                pass  # cut off: what was read until then counts
            self._time_base = float(stream.time_base)
            rate = stream.average_rate or stream.guessed_rate
        self._has_times = None not in stamps and len(set(stamps)) == len(stamps)
        self._stamps = sorted(stamps) if self._has_times else list(range(len(stamps)))
        self._keys = sorted(keys) if self._has_times else []
        self._rate = float(rate) if rate else 0.0

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._stamps)

    def get_avg_fps(self) -> float:
        """Return the mean number of frames per second."""
        return self._rate

    def get_batch(self, indices: Sequence[int]) -> np.ndarray:
        """Return the frames of increasing indices, RGB uint8 ``(T, H, W, 3)``.

        Raises:
            DecodingError: a frame cannot be decoded.
        """
        found: dict[int, np.ndarray] = {}
        with self._opened() as container:
            number_of = {stamp: number for number, stamp in enumerate(self._stamps)}
            try:
                for number, frame in enumerate(self._frames(container, indices[0])):
                    number = number_of.get(frame.pts, -1) if self._has_times else number
                    if number in indices:
                        found[number] = frame.to_ndarray(format='rgb24')
                        if len(found) == 1:
                            check_clip_size(found[number], len(indices))
                    if number >= indices[-1]:
                        break
            except self._av.error.FFmpegError as error:
                raise DecodingError(str(error)) from error
        missing = [index for index in indices if index not in found]
        if missing:
            raise DecodingError(f'frame {missing[0]} of {len(self)} cannot be decoded')
        return np.stack([found[index] for index in indices])

    def times(self) -> np.ndarray:
        """Return the start time of every frame in seconds, ``(N,)``."""
        if not self._has_times:
            return np.arange(len(self)) / (self._rate or 1.0)
        return (np.array(self._stamps) - self._stamps[0]) * self._time_base

    def _opened(self) -> Any:
        try:
            container = self._av.open(self._path)
        except (self._av.error.FFmpegError, ValueError) as error:
            raise DecodingError(f'Error reading: {error}') from error
        if not container.streams.video or container.streams.video[0].codec_context is None:
            container.close()
            raise DecodingError('cannot find video stream')
        container.streams.video[0].codec_context.thread_count = self._num_threads
        return container

    def _frames(self, container: Any, first: int) -> Iterator[Any]:
        """Yield the frames from the key frame before the first index on, or all if there are no times."""
        stream = container.streams.video[0]
        before = [key for key in self._keys if key <= self._stamps[first]]
        if before and before[-1] != self._stamps[0]:
            container.seek(before[-1], stream=stream)
        return container.decode(stream)


class OpenCVDecoder:
    """Decoder by OpenCV, which is always installed. Frames are counted by reading the file to its end.

    Args:
        path: the file.
        num_threads: number of threads; 0 lets FFmpeg choose.

    Raises:
        DecodingError: the file cannot be opened.
    """

    def __init__(self, path: str, num_threads: int = 1) -> None:
        self._path, self._num_threads = path, num_threads
        capture = self._opened()
        self._rate = float(capture.get(cv2.CAP_PROP_FPS))
        self._times = []
        while capture.grab():
            self._times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        capture.release()

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._times)

    def get_avg_fps(self) -> float:
        """Return the mean number of frames per second."""
        return self._rate

    def get_batch(self, indices: Sequence[int]) -> np.ndarray:
        """Return the frames of increasing indices, RGB uint8 ``(T, H, W, 3)``.

        Raises:
            DecodingError: a frame cannot be decoded.
        """
        capture = self._opened()
        frames: list[np.ndarray] = []
        wanted = set(indices)
        for number in range(indices[-1] + 1):
            if not capture.grab():
                break
            if number in wanted:
                ok, frame = capture.retrieve()
                if not ok:
                    break
                if not frames:
                    check_clip_size(frame, len(indices))
                frames.append(frame[..., ::-1])
        capture.release()
        if len(frames) < len(indices):
            raise DecodingError(f'frame {indices[len(frames)]} of {len(self)} cannot be decoded')
        return np.stack(frames)

    def times(self) -> np.ndarray:
        """Return the start time of every frame in seconds, ``(N,)``."""
        return np.array(self._times)

    def _opened(self) -> cv2.VideoCapture:
        settings = [cv2.CAP_PROP_N_THREADS, self._num_threads] if self._num_threads else []
        capture = cv2.VideoCapture(self._path, cv2.CAP_FFMPEG, settings)
        if not capture.isOpened():
            capture = cv2.VideoCapture(self._path)  # built without FFmpeg
        if not capture.isOpened():
            raise DecodingError('Error reading')
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        return capture


def open_with_substitute(path: str, num_threads: int = 1) -> Decoder:
    """Open a file with PyAV if it is installed and knows the codec, else with OpenCV.

    The first frame is decoded, because a codec may be known by name alone.

    Raises:
        DecodingError: no decoder can read it. The message names the codec if that is the reason.
    """
    reasons = []
    kinds: list[type] = [*([PyAVDecoder] if find_spec('av') else []), OpenCVDecoder]
    for kind in kinds:
        try:
            decoder: Decoder = kind(path, num_threads)
            if len(decoder):
                decoder.get_batch([0])
                return decoder
            reasons.append('Error reading: no frame')
        except DecodingError as error:
            reasons.append(str(error))
    raise DecodingError(missing_decoder(path) or reasons[0])
