"""Reading clips so that every file is read right or named."""

from __future__ import annotations

import numpy as np
from mmaction.datasets.transforms import DecordDecode, DecordInit, PackActionInputs
from mmengine import fileio
from torch import Tensor

from resformer_mm.datasets.unreadable import UnreadableFiles
from resformer_mm.registry import TRANSFORMS

from .files import DEFAULT_TIMEOUT, ClipReader, VideoFileError

CHECK = 'tools/dataset_converters/check_video.py names all such files of a data set'


class ClipReadError(RuntimeError):
    """A video file that cannot be read; the message names it and what to do."""


class WatchedReader(ClipReader):
    """A video file with what is to be done about it where it cannot be read.

    Args:
        path: the file.
        unreadable: stops at it, or skips it.
        **kwargs: arguments of :class:`~resformer_mm.tasks.video.files.ClipReader`.
    """

    def __init__(self, path: str, unreadable: UnreadableFiles, **kwargs) -> None:
        self.unreadable = unreadable
        super().__init__(path, **kwargs)


def give_up(unreadable: UnreadableFiles, error: VideoFileError) -> None:
    """Skip the file that an error is about, or raise.

    Raises:
        ClipReadError: the file is not to be skipped.
    """
    unreadable.give_up(f'cannot read the video {error.path} ({error}); {CHECK}', ClipReadError, error)


@TRANSFORMS.register_module()
class ClipInit(DecordInit):
    """Open a video file as mmaction's ``DecordInit`` does, within a time limit.

    Required key: ``filename``. Sets ``video_reader``, ``total_frames`` (those that are there, which a
    truncated file has fewer of than it announces) and ``avg_fps``. :class:`ClipDecode` or
    :class:`MultiResolutionClips` decode it, under the same limit and rule for bad files.

    Args:
        on_error: 'raise' stops at a file that cannot be read; 'skip' (training only) warns, counts it in
            :attr:`num_skipped` and lets the data set take another clip.
        timeout: seconds that opening, and decoding, may take each; a file that takes longer counts as one
            that cannot be read.
        num_threads: number of threads of the decoder; with 0 it chooses.
        backend_args: file backend of MMEngine, for storage other than local files.

    Raises:
        ClipReadError: a file is missing, empty, truncated or no video, or the time is up.
        ValueError: ``on_error`` or the backend is unknown, the timeout not positive, or the number of threads
            negative.
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
            raise ValueError(f'ClipInit: num_threads={num_threads!r} must be an integer of 0 (all) or more')
        if backend_args is not None:
            try:
                fileio.get_file_backend(backend_args=backend_args)
            except (KeyError, ValueError) as error:
                raise ValueError(
                    f'ClipInit: backend_args={backend_args} names no file backend of MMEngine'
                ) from error
        self.unreadable = UnreadableFiles('ClipInit', on_error)
        self.timeout = timeout
        self.backend_args = backend_args

    @property
    def num_skipped(self) -> int:
        """Number of clips that were skipped so far, in all worker processes."""
        return self.unreadable.num_skipped

    def transform(self, results: dict) -> dict | None:
        """Open ``results['filename']``; None stands for a skipped clip."""
        try:
            return super().transform(results)
        except VideoFileError as error:
            return give_up(self.unreadable, error)

    def _get_video_reader(self, filename: str) -> WatchedReader:
        return WatchedReader(
            filename,
            self.unreadable,
            timeout=self.timeout,
            num_threads=self.num_threads,
            backend_args=self.backend_args,
        )

    def __repr__(self) -> str:
        """Name the settings."""
        return (
            f'{type(self).__name__}(on_error={self.unreadable.on_error!r}, timeout={self.timeout}, '
            f'num_threads={self.num_threads}, backend_args={self.backend_args})'
        )


@TRANSFORMS.register_module()
class ClipDecode(DecordDecode):
    """Decode the sampled frames of what :class:`ClipInit` opened; each frame once.

    That holds however often a frame is sampled, as where a short clip is looped.

    Required keys: ``video_reader`` and ``frame_inds``. Sets ``imgs``, RGB uint8 ``(H, W, 3)`` each,
    ``original_shape`` and ``img_shape``. ``ClipInit.on_error`` says what becomes of a clip that cannot be
    decoded.

    Raises:
        ClipReadError: a frame cannot be decoded, or the time is up.
        TypeError: the file was not opened by :class:`ClipInit`.
    """

    def __init__(self) -> None:
        super().__init__(mode='accurate')

    def transform(self, results: dict) -> dict | None:
        """Decode; None stands for a skipped clip."""
        reader = opened_reader(results, type(self).__name__)
        try:
            return super().transform(results)
        except VideoFileError as error:
            return give_up(reader.unreadable, error)

    def _decord_load_frames(self, container: ClipReader, frame_inds: np.ndarray) -> list[np.ndarray]:
        return list(container.frames(frame_inds))


@TRANSFORMS.register_module()
class PackClips(PackActionInputs):
    """Pack a clip, or its copies of :class:`MultiResolutionClips` as a list, with the name of its file.

    ``inputs`` becomes a uint8 tensor ``(num_clips, C, T, H, W)``, or a list of them.

    Args:
        meta_keys: what of the results the data sample carries as meta information.
        **kwargs: arguments of :class:`mmaction.datasets.transforms.PackActionInputs`.

    Raises:
        ValueError: the frames are not yet put together to clips.
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
                "PackClips takes clips, but got frames: put dict(type='FormatShape', input_format='NCTHW') "
                'before it, at the end of MultiResolutionClips.transforms where there are several copies'
            )
        packed = [super(PackClips, self).transform({**results, 'imgs': clip}) for clip in copies]
        inputs: list[Tensor] = [one['inputs'] for one in packed]
        return {**packed[0], 'inputs': inputs}


def opened_reader(results: dict, asker: str) -> WatchedReader:
    """Return the reader of the clip.

    Raises:
        TypeError: it is not that of :class:`ClipInit`.
    """
    reader = results.get('video_reader')
    if not isinstance(reader, WatchedReader):
        raise TypeError(
            f'{asker} decodes what resformer_mm.ClipInit opened: put dict(type="resformer_mm.ClipInit") '
            f'before it in the pipeline, in place of DecordInit'
        )
    return reader
