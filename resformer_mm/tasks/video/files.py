"""Reads videos with decord under a time limit and reports broken files."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import decord
import numpy as np
from mmengine import fileio

Result = TypeVar('Result')

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

# Message of decord 0.6.0 for frames 8, 16, 24, 48 or 72 pixels wide, whose rows are padded at the end.
PADDED_ROWS = 'from_size == to_size'
# Message of decord -> its meaning.
_MEANINGS = {
    'cannot find video stream': NO_VIDEO_STREAM,
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
        return self._reader.get_avg_fps()

    def frames(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return frames as RGB uint8 ``(T, H, W, 3)``. Repeated indices are decoded once.

        Raises:
            VideoFileError: a frame cannot be decoded, or the time limit is exceeded.
        """
        unique, inverse = np.unique(np.asarray(indices), return_inverse=True)
        return self._guarded(lambda: self._decode(unique.tolist()))[inverse]

    def frame_times(self) -> np.ndarray:
        """Return the start time of every frame in seconds, ``(N,)``."""
        return self._guarded(lambda: self._reader.get_frame_timestamp(list(range(len(self))))[:, 0])

    def _decode(self, indices: list[int]) -> np.ndarray:
        try:
            return self._reader.get_batch(indices).asnumpy()
        except decord.DECORDError as error:
            if PADDED_ROWS not in str(error):
                raise
        return np.stack([_without_padding(self._reader[index].asnumpy()) for index in indices])

    def _open(self) -> decord.VideoReader:
        if not fileio.isfile(self.path, backend_args=self._backend_args):
            raise VideoFileError(self.path, MISSING)
        with fileio.get_local_path(self.path, backend_args=self._backend_args) as local:
            with open(local, 'rb') as file:
                if not file.read(1):
                    raise VideoFileError(self.path, EMPTY)
            return decord.VideoReader(str(local), num_threads=self._num_threads)

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
            if not isinstance(error, (decord.DECORDError, RuntimeError, IndexError)):
                raise VideoFileError(self.path, NOT_FETCHED, f'{type(error).__name__}: {text}') from error
            kind = next((kind for words, kind in _MEANINGS.items() if words in text), DAMAGED)
            detail = '' if kind != DAMAGED else text.strip().split('\n')[0]
            raise VideoFileError(self.path, kind, detail) from error


def _without_padding(frame: np.ndarray) -> np.ndarray:
    """Return ``(H, W, 3)`` of a frame ``(H, W, C)`` whose row padding decord treats as extra channels."""
    height, width, _ = frame.shape
    return frame.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)
