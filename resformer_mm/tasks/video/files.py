"""Video files, read by decord so that every bad one is named and none is waited for endlessly."""

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
"""Seconds that reading one clip may take."""

MISSING = 'missing file'
EMPTY = 'file of zero bytes'
NOT_VIDEO = 'not a video, or without its end'
NO_VIDEO_STREAM = 'no video stream'
TRUNCATED = 'truncated'
DAMAGED = 'damaged frames'
NOT_FETCHED = 'not fetched from storage'
TOO_SLOW = 'not read in time'

# What decord 0.6.0 says of frames 8, 16, 24, 48 or 72 pixels wide, the ends of whose rows are padded.
PADDED_ROWS = 'from_size == to_size'
# What decord says -> what it means.
_MEANINGS = {
    'cannot find video stream': NO_VIDEO_STREAM,
    'av_read_frame failed': TRUNCATED,
    'avfilter_graph_create_filter': TRUNCATED,  # not one frame tells the size of the picture
    'Error reading': NOT_VIDEO,
    'Failed to measure duration': NOT_VIDEO,  # a picture, for example
}


class VideoFileError(RuntimeError):
    """A video that cannot be read.

    Args:
        path: the file.
        kind: what is the matter, one of the names in this module.
        detail: the particulars; empty where there are none.
    """

    def __init__(self, path: str, kind: str, detail: str = '') -> None:
        super().__init__(path, kind, detail)
        self.path, self.kind, self.detail = path, kind, detail

    def __str__(self) -> str:
        """Return the reason, without the path."""
        return f'{self.kind}: {self.detail}' if self.detail else self.kind


def within(seconds: float, function: Callable[..., Result], *args: object, **kwargs: object) -> Result:
    """Return what a function returns, unless it takes too long.

    It runs in a thread of its own, which is left to itself when the time is up: native code cannot be
    interrupted.

    Raises:
        TimeoutError: the time is up.
        BaseException: whatever the function raises.
    """
    outcomes: queue.SimpleQueue = queue.SimpleQueue()

    def run() -> None:
        try:
            outcomes.put((function(*args, **kwargs), None))
        except BaseException as error:  # handed on to whoever waits
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

    Frames count from 0 in the order in which they are shown, also where they are not equally long (variable
    frame rate). The file is opened by its path: decord 0.6.0 reads beyond the end of bytes that it is handed
    where a truncated AVI file says so, and takes the process with it.

    Args:
        path: the file.
        timeout: seconds that opening, and every call for frames, may take.
        num_threads: number of threads of the decoder.
        backend_args: file backend of MMEngine; what is not on a local disk is copied there first.

    Raises:
        VideoFileError: the file is missing, empty, no video or without frames, or the time is up.
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
        """Return the number of frames that are there."""
        return len(self._reader)

    def get_avg_fps(self) -> float:
        """Return the mean number of frames a second."""
        return self._reader.get_avg_fps()

    def frames(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return frames as RGB uint8 ``(T, H, W, 3)``; a frame that is asked for twice is decoded once.

        Raises:
            VideoFileError: a frame cannot be decoded, or the time is up.
        """
        wanted, places = np.unique(np.asarray(indices), return_inverse=True)
        return self._guarded(lambda: self._decode(wanted.tolist()))[places]

    def frame_times(self) -> np.ndarray:
        """Return when every frame begins, in seconds, ``(N,)``."""
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
        """Call within the time limit, and turn what goes wrong into an error that says what it means."""
        try:
            return within(self.timeout, function)
        except VideoFileError:
            raise
        except TimeoutError as error:
            raise VideoFileError(self.path, TOO_SLOW, str(error)) from error
        except Exception as error:  # decord's own, of numbers of frames, or whatever storage raises
            text = str(error)
            if not isinstance(error, (decord.DECORDError, RuntimeError, IndexError)):
                raise VideoFileError(self.path, NOT_FETCHED, f'{type(error).__name__}: {text}') from error
            kind = next((kind for words, kind in _MEANINGS.items() if words in text), DAMAGED)
            detail = '' if kind != DAMAGED else text.strip().split('\n')[0]
            raise VideoFileError(self.path, kind, detail) from error


def _without_padding(frame: np.ndarray) -> np.ndarray:
    """Return ``(H, W, 3)`` of a frame ``(H, W, C)`` whose padding decord took for further channels."""
    height, width, _ = frame.shape
    return frame.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)
