"""Result folders with predictions and drawings as files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TextIO

import mmcv
import mmengine
import numpy as np

from resformer_mm.measured import for_json

from .sources import Source
from .video_files import VideoFile

_LONGEST_NAME = 200  # bytes
_CLIP_FPS = 4.0  # slow: a model sees few frames of a clip


class ResultFolder:
    """Writer of predictions and drawings, one after another; nothing is kept in memory.

    ``vis/NAME.png`` is a drawn image, ``vis/NAME.mp4`` a drawn video, ``pred/NAME.png`` a label map, and
    ``predictions.json`` holds the rest. NAME is the file name of the input without its suffix, with a number
    added if several inputs have the same name. For an array, NAME is a number. ``pred/legend.json`` has the
    class of each value of the label maps.

    Args:
        root: the folder, which is created with the first file.
        to_files: function from a prediction to the one that is written.
        legend: value of a label map -> class; None writes no legend.
    """

    def __init__(
        self,
        root: str | Path,
        to_files: Callable[[dict], dict] = lambda prediction: prediction,
        legend: dict | None = None,
    ) -> None:
        self.root = Path(root)
        self._to_files, self._legend = to_files, legend
        self._names: set[str] = set()
        self._number = 0
        self._name = ''
        self._video: VideoFile | None = None
        self._json: TextIO | None = None

    def add(self, source: Source, prediction: dict, drawn: np.ndarray) -> None:
        """Write a drawing and the prediction.

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
        self._write_entry(self._plain(self._to_files(prediction), f'{name}{number}.png'))

    def finish(self, **facts: object) -> None:
        """Complete ``predictions.json``.

        Args:
            **facts: further entries of the file, besides ``predictions``.
        """
        self.close_video()
        file = self._opened()
        file.write('\n]')
        for name, value in facts.items():
            file.write(f',\n{json.dumps(name)}: {json.dumps(for_json(value), indent=1)}')
        file.write('\n}\n')
        file.close()
        Path(file.name).replace(self.root / 'predictions.json')

    def close_video(self) -> None:
        """Close the video that is being written, if any."""
        if self._video is not None:
            self._video.close()
            self._video = None

    def _opened(self) -> TextIO:
        if self._json is None:
            self.root.mkdir(parents=True, exist_ok=True)
            self._json = open(self.root / 'predictions.json.part', 'w', encoding='utf-8')
            self._json.write('{"predictions": [')
        return self._json

    def _write_entry(self, prediction: dict) -> None:
        file = self._opened()
        file.write(',\n' if self._number else '\n')
        file.write(json.dumps(for_json(prediction)))
        self._number += 1

    def _plain(self, prediction: dict, file_name: str) -> dict:
        """Write the label maps of a prediction, and return it with their paths in their place."""
        plain = {}
        for key, value in prediction.items():
            if isinstance(value, np.ndarray):
                mmcv.imwrite(value, str(self.root / 'pred' / file_name))
                value = f'pred/{file_name}'
                if self._legend is not None and not self._number:
                    mmengine.dump(self._legend, self.root / 'pred' / 'legend.json', indent=1)
            plain[key] = value
        return plain

    def _unique(self, source: Source) -> str:
        stem = _short(Path(source.path).stem.strip('.') or 'input') if source.path else f'{self._number:06d}'
        name = next(name for name in _numbered(stem) if name not in self._names)
        self._names.add(name)
        return name


def _short(stem: str) -> str:
    """Return a name that leaves place for numbers and suffixes, since file names have at most 255 bytes."""
    return (
        os.fsencode(stem)[:_LONGEST_NAME].decode(errors='ignore')
        if len(os.fsencode(stem)) > _LONGEST_NAME
        else stem
    )


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    yield from (f'{stem}_{number}' for number in count(2))
