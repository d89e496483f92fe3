"""Result folders with predictions and drawings as files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import cv2
import mmcv
import mmengine
import numpy as np

from .sources import Source

_CLIP_FPS = 4.0  # slow: a model sees few frames of a clip


class ResultFolder:
    """Writer of predictions and drawings.

    ``vis/NAME.png`` is a drawn image, ``vis/NAME.mp4`` a drawn video, ``pred/NAME.png`` a label map, and
    ``predictions.json`` holds the rest. NAME is the file name of the input without its suffix, with a number
    added if several inputs have the same name. For an array, NAME is a number.

    Args:
        root: the folder, which is created with the first file.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._names: set[str] = set()
        self._predictions: list[dict] = []
        self._name = ''
        self._video: VideoFile | None = None

    def add(self, source: Source, prediction: dict, drawn: np.ndarray) -> None:
        """Write a drawing and keep the prediction for ``predictions.json``.

        Args:
            source: the input.
            prediction: as returned by :meth:`ResolutionInferencer.to_dict`; a label map in it is written
                to a file.
            drawn: the drawing, RGB ``(H, W, 3)``, or ``(T, H, W, 3)`` for a clip.
        """
        if source.frame:
            name = self._name
        else:
            self.close_video()
            name = self._name = self._unique(source)
        if drawn.ndim == 4:
            with VideoFile(self.root / 'vis' / f'{name}.mp4', _CLIP_FPS) as video:
                for frame in drawn:
                    video.write(frame)
        elif source.frame is not None:
            if self._video is None:
                self._video = VideoFile(self.root / 'vis' / f'{name}.mp4', source.fps)
            self._video.write(drawn)
        else:
            mmcv.imwrite(drawn[..., ::-1], str(self.root / 'vis' / f'{name}.png'))
        number = '' if source.frame is None else f'_{source.frame:06d}'
        self._predictions.append(self._plain(prediction, f'{name}{number}.png'))

    def finish(self, **facts: object) -> None:
        """Write ``predictions.json``.

        Args:
            **facts: further entries of the file, besides ``predictions``.
        """
        self.close_video()
        self.root.mkdir(parents=True, exist_ok=True)
        mmengine.dump({**facts, 'predictions': self._predictions}, self.root / 'predictions.json', indent=1)

    def close_video(self) -> None:
        """Close the video that is being written, if any."""
        if self._video is not None:
            self._video.close()
            self._video = None

    def _plain(self, prediction: dict, file_name: str) -> dict:
        """Write the label maps of a prediction, and return it with their paths in their place."""
        plain = {}
        for key, value in prediction.items():
            if isinstance(value, np.ndarray):
                mmcv.imwrite(value, str(self.root / 'pred' / file_name))
                value = f'pred/{file_name}'
            plain[key] = value
        return plain

    def _unique(self, source: Source) -> str:
        stem = Path(source.path).stem if source.path else f'{len(self._predictions):06d}'
        name = next(name for name in _numbered(stem) if name not in self._names)
        self._names.add(name)
        return name


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    yield from (f'{stem}_{number}' for number in count(2))


class VideoFile:
    """Writer of an MPEG-4 file, frame by frame.

    Args:
        path: the file; its folder is created.
        fps: frames per second; None means 25.

    Raises:
        OSError: OpenCV cannot write the file.
    """

    def __init__(self, path: Path, fps: float | None) -> None:
        self.path, self._fps = path, fps or 25.0
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, RGB ``(H, W, 3)``. All frames must have the same size."""
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            height, width = frame.shape[:2]
            codec = cv2.VideoWriter.fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(str(self.path), codec, self._fps, (width, height))
            if not self._writer.isOpened():
                raise OSError(f'OpenCV cannot write the video {self.path} with the codec mp4v')
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.release()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
