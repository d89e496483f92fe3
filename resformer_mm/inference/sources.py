"""Input sources: paths, arrays, folders, videos, and lists of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from resformer_mm.hidden_files import visible
from resformer_mm.repairs import tell_once
from resformer_mm.text import shorten_list

from .video_reading import FrameReader, VideoError, open_video

IMAGE_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
VIDEO_SUFFIXES = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm')

Inputs = str | Path | np.ndarray | Sequence


class InputError(ValueError):
    """An input that cannot be read or has the wrong format; the message names the input and the reason."""


@dataclass(frozen=True)
class Source:
    """One input: a file, an array, or a frame of a video.

    Attributes:
        path: the file; None for an array.
        array: the pixels, if they are in memory.
        frame: frame number, from 0, if a video is predicted frame by frame.
        fps: frames per second of that video.
        optional: whether the file was found in a folder. If it cannot be read, it is skipped and reported.
    """

    path: str | None = None
    array: np.ndarray | None = None
    frame: int | None = None
    fps: float | None = None
    optional: bool = False

    @property
    def is_video(self) -> bool:
        """Whether it is a video file."""
        return self.array is None and Path(self.path or '').suffix.lower() in VIDEO_SUFFIXES


class ImageSources:
    """Images: files, BGR uint8 arrays ``(H, W, 3)``, folders, and video files frame by frame."""

    unit = 'image'  # name of one input, in messages
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES  # of the files that are taken from a folder

    def collect(self, inputs: Inputs) -> list[Source]:
        """Return one source per path and array, and one per file in a folder, sorted by name.

        Args:
            inputs: a path, an array or a folder, or a list of them.

        Raises:
            FileNotFoundError: there is no such file or folder.
            InputError: an array has the wrong shape or type, a folder has no suitable file, or the list is
                empty.
            TypeError: an input is neither a path nor an array.
        """
        sources: list[Source] = []
        for item in inputs if isinstance(inputs, (list, tuple)) else [inputs]:
            if isinstance(item, np.ndarray):
                self.check(item)
                sources.append(Source(array=item))
            elif not isinstance(item, (str, Path)):
                raise TypeError(f'an input must be a path or an array, got {type(item).__name__}')
            elif Path(item).is_dir():
                sources.extend(self._files_of(Path(item)))
            elif Path(item).is_file():
                sources.append(Source(str(item)))
            else:
                raise FileNotFoundError(f'there is no file or folder {item}')
        if not sources:
            raise InputError('nothing to predict: the list of inputs is empty')
        return sources

    def check(self, array: np.ndarray) -> None:
        """Check the pixels of an image.

        Raises:
            InputError: the shape or the type is wrong.
        """
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
            raise InputError(
                f'an image array must be BGR uint8 of shape (H, W, 3), got {array.dtype} {array.shape}'
            )

    def expand(self, sources: list[Source], skipped: list[dict]) -> Iterator[Source]:
        """Yield the sources of single predictions: images, and the frames of videos.

        Args:
            sources: as returned by :meth:`collect`.
            skipped: receives ``path`` and ``reason`` of a video that ends early.

        Raises:
            InputError: a video cannot be read.
        """
        for source in sources:
            yield from read_frames(source, skipped) if source.is_video else [source]

    def count(self, sources: list[Source]) -> int:
        """Return the number of predictions; for videos, the number of frames in the file header.

        Raises:
            InputError: a video cannot be opened.
        """
        return sum(_open(source).frame_cnt if source.is_video else 1 for source in sources)

    def example(self, side: int = 256) -> Source:
        """Return a square image, with its side in pixels."""
        return Source(array=np.zeros((side, side, 3), np.uint8))

    def _files_of(self, folder: Path) -> Iterator[Source]:
        names = visible(folder, sorted(path.name for path in folder.iterdir() if path.is_file()))
        files = [folder / name for name in names]
        wanted = [path for path in files if path.suffix.lower() in self.suffixes]
        if not wanted:
            raise InputError(
                f'the folder {folder} has no file that ends in {", ".join(self.suffixes)}; '
                'its subfolders are not searched'
            )
        others = [path.name for path in files if path not in wanted]
        if others:
            text = f'{folder}: ignored {len(others)} other files ({shorten_list(others)})'
            print_log(text, logger='current')
        for path in wanted:
            yield Source(str(path), optional=True)


class ClipSources(ImageSources):
    """Clips: video files, RGB uint8 arrays ``(T, H, W, 3)`` as in mmaction, and folders of video files."""

    unit = 'video clip'
    suffixes = VIDEO_SUFFIXES

    def check(self, array: np.ndarray) -> None:
        """Check the frames of a clip.

        Raises:
            InputError: the shape or the type is wrong.
        """
        if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8 or not array.size:
            raise InputError(
                f'a clip array must be RGB uint8 of shape (T, H, W, 3), got {array.dtype} {array.shape}'
            )

    def expand(self, sources: list[Source], skipped: list[dict]) -> Iterator[Source]:
        """Yield the clips, each predicted as a whole."""
        yield from sources

    def count(self, sources: list[Source]) -> int:
        """Return the number of clips."""
        return len(sources)

    def example(self, side: int = 256) -> Source:
        """Return a clip of 64 square frames, with their side in pixels."""
        return Source(array=np.zeros((64, side, side, 3), np.uint8))


def read_frames(source: Source, skipped: list[dict]) -> Iterator[Source]:
    """Yield the frames of a video file, ``(H, W, 3)`` BGR.

    Args:
        source: the video.
        skipped: receives ``path`` and ``reason`` if the file has fewer frames than its header says.

    Raises:
        InputError: the video cannot be opened, or none of its frames can be read.
    """
    video, number = _open(source), -1
    for number, image in enumerate(video):
        yield Source(source.path, image, number, video.fps)
    if number < 0:
        raise InputError(f'cannot read any frame of the video {source.path}: repair or replace the file')
    if number + 1 < video.frame_cnt:
        reason = f'ends after {number + 1} frames, the file header says {video.frame_cnt}'
        skip(source, reason, skipped)


def skip(source: Source, reason: str, skipped: list[dict]) -> None:
    """Record a file, or the rest of one, that is not predicted, and name it once per process."""
    skipped.append({'path': source.path, 'reason': reason})
    tell_once(f'skipped: {source.path} ({reason})')


def _open(source: Source) -> FrameReader:
    try:
        return open_video(str(source.path))
    except VideoError as error:
        raise InputError(f'cannot read the video {source.path} ({error})') from error
