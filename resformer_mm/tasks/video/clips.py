"""Strict video loading."""

from __future__ import annotations

import numpy as np
from mmaction.datasets.transforms import DecordDecode, DecordInit, PackActionInputs
from mmengine import fileio
from torch import Tensor

from resformer_mm.datasets.unreadable import UnreadableFiles
from resformer_mm.registry import TRANSFORMS

from .files import DEFAULT_TIMEOUT, MISSING, ClipReader, VideoFileError

CHECK = 'tools/dataset_converters/check_video.py lists all such files of a data set'


class ClipReadError(RuntimeError):
    """A video file that cannot be read. The message names the file and a remedy."""


class WatchedReader(ClipReader):
    """A reader that also carries the rule for unreadable files.

    Args:
        path: the file.
        unreadable: the rule: raise an error, or skip the file.
        **kwargs: arguments of :class:`~resformer_mm.tasks.video.files.ClipReader`.
    """

    def __init__(self, path: str, unreadable: UnreadableFiles, **kwargs) -> None:
        self.unreadable = unreadable
        super().__init__(path, **kwargs)


def skip_or_raise(unreadable: UnreadableFiles, error: VideoFileError) -> None:
    """Count the unreadable file as skipped, or raise.

    Raises:
        ClipReadError: unreadable files are not skipped.
    """
    reason = f'cannot read the video {error.path} ({error}); {CHECK}'
    unreadable.skip_or_raise(reason, ClipReadError, error, error.kind == MISSING)


@TRANSFORMS.register_module()
class ClipInit(DecordInit):
    """Open a video file as mmaction's ``DecordInit`` does, but within a time limit.

    Required key: ``filename``. Sets ``video_reader``, ``total_frames`` and ``avg_fps``. ``total_frames``
    counts the frames that exist; in a truncated file this can be less than its header announces. Use
    :class:`ClipDecode` or :class:`MultiResolutionClips` to decode the frames; they follow the same time limit
    and ``on_error``.

    Args:
        on_error: 'raise' stops at an unreadable file; 'skip' (training only) logs a warning, counts the file
            in :attr:`num_skipped` and makes the data set choose another clip.
        timeout: time limit in seconds, for opening and for decoding separately. A file that takes longer
            counts as unreadable.
        num_threads: number of threads of the decoder; 0 lets the decoder choose.
        backend_args: file backend of MMEngine, for storage other than local files.

    Raises:
        ClipReadError: a file is missing, empty, truncated or not a video, or exceeds the time limit.
        ValueError: ``on_error`` or the backend is unknown, the timeout is not positive, or the number of
            threads is negative.
    """

    def __init__(
        self,
        on_error: str = 'raise',
        timeout: float = DEFAULT_TIMEOUT,
        num_threads: int = 1,
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(num_threads=num_threads)
        if not isinstance(timeout, (int, float)) or timeout <= 0:
            raise ValueError(f'ClipInit: timeout={timeout!r} must be a positive number of seconds')
        if isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 0:
            raise ValueError(f'ClipInit: num_threads={num_threads!r} must be an integer of at least 0')
        if backend_args is not None:
            try:
                fileio.get_file_backend(backend_args=backend_args)
            except (KeyError, ValueError) as error:
                raise ValueError(
                    f'ClipInit: backend_args={backend_args} does not specify a file backend of MMEngine'
                ) from error
        self.unreadable = UnreadableFiles('ClipInit', on_error)
        self.timeout = timeout
        self.backend_args = backend_args

    @property
    def num_skipped(self) -> int:
        """Number of clips skipped so far, in all worker processes."""
        return self.unreadable.num_skipped

    def transform(self, results: dict) -> dict | None:
        """Open ``results['filename']``; None means that the clip is skipped."""
        try:
            return super().transform(results)
        except VideoFileError as error:
            skip_or_raise(self.unreadable, error)
            return None

    def _get_video_reader(self, filename: str) -> WatchedReader:
        return WatchedReader(
            filename,
            self.unreadable,
            timeout=self.timeout,
            num_threads=self.num_threads,
            backend_args=self.backend_args,
        )

    def __repr__(self) -> str:
        """Return the settings."""
        return (
            f'{type(self).__name__}(on_error={self.unreadable.on_error!r}, timeout={self.timeout}, '
            f'num_threads={self.num_threads}, backend_args={self.backend_args})'
        )


@TRANSFORMS.register_module()
class ClipDecode(DecordDecode):
    """Decode the sampled frames of a file opened by :class:`ClipInit`.

    Each frame is decoded once, even if it is sampled several times because a short clip is looped.

    Required keys: ``video_reader`` and ``frame_inds``. Sets ``imgs``, RGB uint8 ``(H, W, 3)`` each,
    ``original_shape`` and ``img_shape``. ``ClipInit.on_error`` decides how a clip that cannot be decoded is
    handled.

    Raises:
        ClipReadError: a frame cannot be decoded, or the time limit is exceeded.
        TypeError: the file was not opened by :class:`ClipInit`.
    """

    def __init__(self) -> None:
        super().__init__(mode='accurate')

    def transform(self, results: dict) -> dict | None:
        """Decode the frames; None means that the clip is skipped."""
        reader = opened_reader(results, type(self).__name__)
        try:
            return super().transform(results)
        except VideoFileError as error:
            skip_or_raise(reader.unreadable, error)
            return None

    def _decord_load_frames(self, container: ClipReader, frame_inds: np.ndarray) -> list[np.ndarray]:
        return list(container.frames(frame_inds))


@TRANSFORMS.register_module()
class PackClips(PackActionInputs):
    """Pack a clip, or the copies made by :class:`MultiResolutionClips`, together with its file name.

    ``inputs`` becomes a uint8 tensor ``(num_clips, C, T, H, W)``, or a list of such tensors.

    Args:
        meta_keys: keys of the results to store in the data sample as meta information.
        **kwargs: arguments of :class:`mmaction.datasets.transforms.PackActionInputs`.

    Raises:
        ValueError: the frames have not been formatted as clips.
    """

    def __init__(self, meta_keys=('filename', 'frame_dir', 'img_shape', 'total_frames'), **kwargs) -> None:
        super().__init__(meta_keys=meta_keys, **kwargs)

    def transform(self, results: dict) -> dict:
        """Return ``inputs`` and ``data_samples``."""
        copies = results.get('imgs')
        if not isinstance(copies, list):
            return super().transform(results)
        if any(np.ndim(clip) != 5 for clip in copies):
            raise ValueError(
                "PackClips needs clips, but got frames: put dict(type='FormatShape', input_format='NCTHW') "
                'before it, or at the end of MultiResolutionClips.transforms if there are several copies'
            )
        packed = [super(PackClips, self).transform({**results, 'imgs': clip}) for clip in copies]
        inputs: list[Tensor] = [one['inputs'] for one in packed]
        return {**packed[0], 'inputs': inputs}


def opened_reader(results: dict, asker: str) -> WatchedReader:
    """Return the reader of the clip.

    Raises:
        TypeError: the file was not opened by :class:`ClipInit`.
    """
    reader = results.get('video_reader')
    if not isinstance(reader, WatchedReader):
        raise TypeError(
            f'{asker} needs a file opened by resformer_mm.ClipInit: put dict(type="resformer_mm.ClipInit") '
            f'before it in the pipeline, in place of DecordInit'
        )
    return reader
