"""Input sources: paths, arrays, folders, videos, and lists of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mmcv
import numpy as np
from mmengine.logging import print_log

from resformer_mm.text import shorten_list

IMAGE_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
VIDEO_SUFFIXES = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm')


class InputError(ValueError):
    """A file that cannot be read, or an array that is not a picture; the message says which and why."""


@dataclass(frozen=True)
class Source:
    """One input: a file, an array, or a frame of a video.

    Attributes:
        path: the file; None for an array.
        array: the pixels, if they are in memory.
        frame: number of the frame, from 0, of a video that is predicted frame by frame.
        fps: frames per second of that video.
        optional: whether it was found in a folder: a file that cannot be read is then skipped and reported.
    """

    path: str | None = None
    array: np.ndarray | None = None
    frame: int | None = None
    fps: float | None = None
    optional: bool = False

    @property
    def is_video(self) -> bool:
        """Whether it is a video file."""
        return self.array is None and Path(self.path).suffix.lower() in VIDEO_SUFFIXES


class ImageSources:
    """Images: files, BGR uint8 arrays ``(H, W, 3)``, folders, and video files frame by frame."""

    unit = 'image'  # what is predicted one at a time
    suffixes = IMAGE_SUFFIXES  # of the files that are taken from a folder

    def list(self, inputs: object) -> list[Source]:
        """Return one source per path and array, and per file in a folder, sorted by name.

        Args:
            inputs: a path, an array or a folder, or a list of them.

        Raises:
            FileNotFoundError: there is no such file or folder.
            InputError: an array is not of the right shape, a folder holds nothing to predict, or the list is
                empty.
            TypeError: an input is neither a path nor an array.
        """
        sources = []
        for item in inputs if isinstance(inputs, (list, tuple)) else [inputs]:
            if isinstance(item, np.ndarray):
                self.check(item)
                sources.append(Source(array=item))
            elif not isinstance(item, (str, Path)):
                raise TypeError(f'an input is a path or an array, not a {type(item).__name__}')
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
            InputError: they are of another shape or type.
        """
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
            raise InputError(
                f'an image array is BGR, uint8 and of shape (H, W, 3), not {array.dtype} {array.shape}'
            )

    def expand(self, sources: list[Source], skipped: list[dict]) -> Iterator[Source]:
        """Yield what is predicted one at a time: images, and the frames of videos.

        Args:
            sources: as :meth:`list` gives them.
            skipped: receives ``path`` and ``reason`` of a video that ends early.

        Raises:
            InputError: a video cannot be read.
        """
        for source in sources:
            yield from read_frames(source, skipped) if source.is_video else [source]

    def count(self, sources: list[Source]) -> int:
        """Return the number of predictions, as the headers of video files announce it.

        Raises:
            InputError: a video cannot be opened.
        """
        return sum(_open(source.path).frame_cnt if source.is_video else 1 for source in sources)

    def example(self) -> Source:
        """Return a square picture."""
        return Source(array=np.zeros((256, 256, 3), np.uint8))

    def _files_of(self, folder: Path) -> Iterator[Source]:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        wanted = [path for path in files if path.suffix.lower() in self.suffixes]
        if not wanted:
            raise InputError(
                f'the folder {folder} holds no file that ends in {", ".join(self.suffixes)}; '
                'its subfolders are not searched'
            )
        others = [path.name for path in files if path not in wanted]
        if others:
            text = f'{folder}: left out {len(others)} other files ({shorten_list(others)})'
            print_log(text, logger='current')
        for path in wanted:
            yield Source(str(path), optional=True)


class ClipSources(ImageSources):
    """Clips: video files, RGB uint8 arrays ``(T, H, W, 3)`` as mmaction has them, and folders of files."""

    unit = 'video clip'
    suffixes = VIDEO_SUFFIXES

    def check(self, array: np.ndarray) -> None:
        """Check the frames of a clip.

        Raises:
            InputError: they are of another shape or type.
        """
        if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8 or not array.size:
            raise InputError(
                f'a clip array is RGB, uint8 and of shape (T, H, W, 3), not {array.dtype} {array.shape}'
            )

    def expand(self, sources: list[Source], skipped: list[dict]) -> Iterator[Source]:
        """Yield the clips, each predicted as a whole."""
        yield from sources

    def count(self, sources: list[Source]) -> int:
        """Return the number of clips."""
        return len(sources)

    def example(self) -> Source:
        """Return a clip of square frames."""
        return Source(array=np.zeros((64, 256, 256, 3), np.uint8))


def read_frames(source: Source, skipped: list[dict]) -> Iterator[Source]:
    """Yield the frames of a video file, ``(H, W, 3)`` BGR.

    Args:
        source: the video.
        skipped: receives ``path`` and ``reason`` if the file holds fewer frames than it announces.

    Raises:
        InputError: the video cannot be opened, or has no frame that can be read.
    """
    video, number = _open(source.path), -1
    with video:
        for number, image in enumerate(video):
            yield Source(source.path, image, number, video.fps)
    if number < 0:
        raise InputError(f'cannot read a frame of the video {source.path}: repair the file or give another')
    if number + 1 < video.frame_cnt:
        reason = f'ends after {number + 1} of the {video.frame_cnt} frames that the file announces'
        skip(source.path, reason, skipped)


def skip(path: str, reason: str, skipped: list[dict]) -> None:
    """Record a file, or the rest of one, that is not predicted, and log a warning."""
    skipped.append({'path': path, 'reason': reason})
    print_log(f'skipped: {path} ({reason})', logger='current', level=logging.WARNING)


def _open(path: str) -> mmcv.VideoReader:
    video = mmcv.VideoReader(path)
    if not video.opened:
        raise InputError(f'cannot read the video {path}: repair the file or give another')
    return video
