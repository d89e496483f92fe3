"""Reads videos under a time limit and reports broken files.

The decoder is decord. Where it is missing or does not know a codec, PyAV or OpenCV takes its place.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar
from weakref import finalize

import mmcv
import numpy as np
from mmengine import fileio

from resformer_mm.compat.quiet import is_quiet
from resformer_mm.inference.video_reading import NO_DECODER

from .decoders import TOO_LARGE, Decoder, DecodingError, check_clip_size, open_with_substitute
from .headers import has_false_count

try:
    import decord
except (ImportError, OSError):  # no wheel for this platform, or one whose libraries cannot be loaded
    decord = None

if decord is not None and is_quiet():
    decord.logging.set_level(decord.logging.FATAL)  # damage is an error that names the file

Result = TypeVar('Result')

_DECODER_ERRORS = (RuntimeError, IndexError, *(() if decord is None else (decord.DECORDError,)))

DEFAULT_TIMEOUT = 60.0
"""Time limit for reading one clip, in seconds."""

MISSING = 'missing file'
EMPTY = 'empty file'
NOT_VIDEO = 'not a video, or missing its end'
NO_VIDEO_STREAM = 'no video stream'
TRUNCATED = 'truncated'
DAMAGED = 'damaged frames'
NOT_FETCHED = 'not fetched from storage'
TOO_SLOW = 'not read in time'
UNKNOWN_CODEC = 'codec without a decoder'
FALSE_HEADER = 'header that cannot be true'
LARGE_FRAMES = 'frames too large'

# Message of decord 0.6.0 for frames 8, 16, 24, 48 or 72 pixels wide, whose rows are padded at the end.
PADDED_ROWS = 'from_size == to_size'
# That of decord for a file without a video, or with one in a codec that it does not know.
_NO_STREAM = 'cannot find video stream'
# Message of a decoder -> its meaning.
_MEANINGS = {
    NO_DECODER: UNKNOWN_CODEC,
    TOO_LARGE: LARGE_FRAMES,
    _NO_STREAM: NO_VIDEO_STREAM,
    'av_read_frame failed': TRUNCATED,
    'avfilter_graph_create_filter': TRUNCATED,  # the frame size is unknown because no frame is complete
    'Error reading': NOT_VIDEO,
    'Failed to measure duration': NOT_VIDEO,  # for example, an image
}


class VideoFileError(RuntimeError):
    """A video that cannot be read.

    Args:
        path: the file.
        kind: the kind of problem, one of the constants of this module.
        detail: details; may be empty.
    """

    def __init__(self, path: str, kind: str, detail: str = '') -> None:
        super().__init__(path, kind, detail)
        self.path, self.kind, self.detail = path, kind, detail

    def __str__(self) -> str:
        """Return the reason, without the path."""
        return f'{self.kind}: {self.detail}' if self.detail else self.kind


def run_with_timeout(
    seconds: float, function: Callable[..., Result], *args: object, **kwargs: object
) -> Result:
    """Call a function in a separate thread and return its result, unless it takes too long.

    After a timeout the thread keeps running, because native code cannot be interrupted.

    Raises:
        TimeoutError: the time limit is exceeded.
        BaseException: any error that the function raises.
    """
    outcomes: queue.SimpleQueue = queue.SimpleQueue()

    def run() -> None:
        try:
            outcomes.put((function(*args, **kwargs), None))
        except BaseException as error:  # passed on to the waiting thread
            outcomes.put((None, error))

    threading.Thread(target=run, daemon=True, name='clip').start()
    try:
        result, error = outcomes.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f'not done within {seconds:g} seconds') from None
    if error is not None:
        raise error
    return result


class DecordDecoder:
    """Decoder by decord.

    Args:
        path: the file.
        num_threads: number of threads; 0 lets the decoder choose.

    Raises:
        decord.DECORDError: the file cannot be opened.
    """

    def __init__(self, path: str, num_threads: int = 1) -> None:
        self._reader = decord.VideoReader(path, num_threads=num_threads)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._reader)

    def get_avg_fps(self) -> float:
        """Return the mean number of frames per second."""
        return self._reader.get_avg_fps()

    def get_batch(self, indices: Sequence[int]) -> np.ndarray:
        """Return the frames of increasing indices, RGB uint8 ``(T, H, W, 3)``."""
        first = _without_padding(self._reader[indices[0]].asnumpy())
        check_clip_size(first, len(indices))
        clip = np.empty((len(indices), *first.shape), first.dtype)
        clip[0] = first
        if len(indices) > 1:
            clip[1:] = self._batch(indices[1:])
        return clip

    def _batch(self, indices: Sequence[int]) -> np.ndarray:
        try:
            return self._reader.get_batch(indices).asnumpy()
        except decord.DECORDError as error:
            if PADDED_ROWS not in str(error):
                raise
        return np.stack([_without_padding(self._reader[index].asnumpy()) for index in indices])

    def times(self) -> np.ndarray:
        """Return the start time of every frame in seconds, ``(N,)``."""
        return self._reader.get_frame_timestamp(list(range(len(self))))[:, 0]


class ClipReader:
    """The frames of one video file.

    Frames are numbered from 0 in display order, even if they differ in duration (variable frame rate). The
    file is opened by its path, not from memory: with a truncated AVI file, decord 0.6.0 reads past the end of
    a buffer and crashes the process.

    Args:
        path: the file.
        timeout: time limit in seconds, for opening and for every call that reads frames.
        num_threads: number of threads of the decoder.
        backend_args: file backend of MMEngine; a file on remote storage is copied to the local disk first.

    Raises:
        VideoFileError: the file is missing, empty, not a video or without frames, or exceeds the time limit.
    """

    def __init__(
        self,
        path: str,
        timeout: float = DEFAULT_TIMEOUT,
        num_threads: int = 1,
        backend_args: dict | None = None,
    ) -> None:
        self.path = path
        self.timeout = timeout
        self._num_threads = num_threads
        self._backend_args = backend_args
        self._reader = self._guarded(self._open)
        if len(self) == 0:
            raise VideoFileError(path, TRUNCATED, 'it has no frames')

    def __len__(self) -> int:
        """Return the number of frames that exist."""
        return len(self._reader)

    def get_avg_fps(self) -> float:
        """Return the mean number of frames per second."""
        return float(self._reader.get_avg_fps())

    def frames(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return frames as RGB uint8 ``(T, H, W, 3)``. Repeated indices are decoded once.

        Raises:
            VideoFileError: a frame cannot be decoded, or the time limit is exceeded.
        """
        unique, inverse = np.unique(np.asarray(indices), return_inverse=True)
        return self._guarded(lambda: self._reader.get_batch(self._existing(unique)))[inverse]

    def frame_times(self) -> np.ndarray:
        """Return the start time of every frame in seconds, ``(N,)``."""
        return self._guarded(self._reader.times)

    def _existing(self, indices: np.ndarray) -> list[int]:
        if len(indices) and not 0 <= indices[0] <= indices[-1] < len(self):
            raise IndexError(f'frames {indices[0]} to {indices[-1]} of {len(self)}')
        return indices.tolist()

    def _open(self) -> Decoder:
        if not fileio.isfile(self.path, backend_args=self._backend_args):
            raise VideoFileError(self.path, MISSING)
        # A local copy lives as long as the reader, because some decoders open it again.
        copies = ExitStack()
        finalize(self, copies.close)
        local = str(copies.enter_context(fileio.get_local_path(self.path, backend_args=self._backend_args)))
        with open(local, 'rb') as file:
            if not file.read(1):
                raise VideoFileError(self.path, EMPTY)
        if has_false_count(local):
            raise VideoFileError(self.path, FALSE_HEADER, 'it announces more frames than the file has bytes')
        if decord is None:
            return open_with_substitute(local, self._num_threads)
        try:
            return DecordDecoder(local, self._num_threads)
        except decord.DECORDError as error:
            if _NO_STREAM not in str(error):
                raise
            try:
                return open_with_substitute(local, self._num_threads)
            except DecodingError as other:
                raise other if NO_DECODER in str(other) else error from None

    def _guarded(self, function: Callable[[], Result]) -> Result:
        """Call a function within the time limit, and translate its errors into :class:`VideoFileError`."""
        try:
            return run_with_timeout(self.timeout, function)
        except VideoFileError:
            raise
        except TimeoutError as error:
            raise VideoFileError(self.path, TOO_SLOW, str(error)) from error
        except Exception as error:  # errors of decord, of frame indices, or of the storage backend
            text = str(error)
            if not isinstance(error, _DECODER_ERRORS):
                raise VideoFileError(self.path, NOT_FETCHED, f'{type(error).__name__}: {text}') from error
            kind = next((kind for words, kind in _MEANINGS.items() if words in text), DAMAGED)
            detail = _last_words(text) if kind in (DAMAGED, UNKNOWN_CODEC, LARGE_FRAMES) else ''
            raise VideoFileError(self.path, kind, detail) from error


def _last_words(text: str) -> str:
    """Return the message of a decoder without the places in its source code, the times and the values."""
    return re.sub(r'^.*\(\S+ vs\. \S+\) ', '', text.strip().split('\n')[0])


def _without_padding(frame: np.ndarray) -> np.ndarray:
    """Return ``(H, W, 3)`` of a frame ``(H, W, C)`` whose row padding decord treats as extra channels."""
    height, width, _ = frame.shape
    return frame.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)


def announced_frames(path: str, number: int) -> int | None:
    """Return the number of frames in the header of a file if clearly fewer were found; None otherwise.

    Containers without an index only estimate the number, and may be off by a frame or so.

    Args:
        path: the file.
        number: number of frames that were found.
    """
    announced = mmcv.VideoReader(path).frame_cnt
    return announced if number < announced - max(1, announced // 50) else None


def is_mp4(path: str) -> bool:
    """Return whether a file is MP4. If it opens, it is complete, and missing frames were cut on purpose."""
    with open(path, 'rb') as file:
        return file.read(8)[4:] == b'ftyp'
