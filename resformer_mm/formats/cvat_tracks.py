"""Tracks in CVAT's XML file for videos: the images of the frames, and the shapes in each of them."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from resformer_mm.text import shorten_list

from .annotated import FormatError
from .images import ImageIndex
from .xml_files import LineElement

# CVAT writes frames under these names, which count from 0.
_FRAME = re.compile(r'frame_(\d+)', re.IGNORECASE)
_STEP = re.compile(r'step\s*=\s*(\d+)')
_NO_END = 2**31


@dataclass(frozen=True)
class TrackedFrames:
    """Frames of a video whose objects were tracked.

    Attributes:
        subset: subset of the task; '' if there is none.
        images: number of the frame -> path of the image below the folder.
        shapes: number of the frame -> the shapes that are visible in it, each with the label and the group of
            its track.
    """

    subset: str
    images: dict[int, str]
    shapes: dict[int, list[LineElement]]


def tracked_frames(index: ImageIndex, file: Path, element: Element) -> TrackedFrames:
    """Return the frames of a file with tracks.

    Every image has to be a frame of the task, and every visible shape to be in one, so that no image gets the
    shapes of another one.

    Args:
        index: the images below the folder.
        file: the file.
        element: its content.

    Raises:
        FormatError: it is not certain which images the frames are, or shapes are missing.
    """
    tracks = element.findall('track')
    subsets = {track.get('subset', '') for track in tracks}
    paths = ('meta/task', 'meta/job', 'meta/project/tasks/task')
    tasks = [task for path in paths for task in element.findall(path)]
    if len(tasks) > 1 or len(subsets) > 1:
        raise FormatError(
            f'{len(tracks)} tracks of several tasks, whose frames have the same numbers: export each task'
        )
    frames = _frames(tasks[0] if tasks else None)
    images = _images(index, file)
    if not images:
        raise FormatError(
            f'{len(tracks)} tracks, but no images of the frames: export with images, or add them as '
            'images/frame_000000.png, ..., counted from 0'
        )
    other = sorted(number for number in images if number not in frames)
    if other or (frames.stop == _NO_END and frames.start not in images):
        shown = shorten_list([images[number] for number in other or sorted(images)])
        raise FormatError(
            f'its frames are {_text(frames)}, but there is {shown}: export with images, '
            'or name the images by the numbers of their frames'
        )
    shapes: dict[int, list[LineElement]] = defaultdict(list)
    for track in tracks:
        for number, shape in _visible(track, frames.step, images):
            shape.set('label', track.get('label', ''))
            shape.set('group_id', track.get('group_id', '0'))
            shapes[number].append(shape)
    if missing := sorted(set(shapes) - set(images)):
        raise FormatError(
            f'{len(missing)} frames with objects have no image, such as {missing[0]}: export with images, or '
            f'add frame_{missing[0]:06}.png'
        )
    return TrackedFrames(next(iter(subsets), ''), images, dict(shapes))


def _frames(task: Element | None) -> range:
    """Return the numbers of the frames that a task has."""
    texts = {} if task is None else {child.tag: (child.text or '').strip() for child in task}
    start, stop, size = (texts.get(name, '') for name in ('start_frame', 'stop_frame', 'size'))
    step = _STEP.search(texts.get('frame_filter', ''))
    first, width = int(start) if start.isdecimal() else 0, max(int(step[1]), 1) if step else 1
    if stop.isdecimal():
        return range(first, int(stop) + 1, width)
    return range(first, first + int(size) * width if size.isdecimal() else _NO_END, width)


def _images(index: ImageIndex, file: Path) -> dict[int, str]:
    """Return the images with the names of frames that are beside a file or below its folder."""
    below = file.parent.relative_to(index.root).as_posix()
    found: dict[int, str] = {}
    for name in index.names:
        match = _FRAME.fullmatch(Path(name).stem)
        if match is None or not (below == '.' or name.startswith(f'{below}/')):
            continue
        number = int(match[1])
        if number in found:
            raise FormatError(
                f'{found[number]} and {name} have the same number: leave the images of one task in the folder'
            )
        found[number] = name
    return found


def _visible(track: Element, step: int, images: dict[int, str]) -> list[tuple[int, LineElement]]:
    """Return the frames and shapes of a track where the object is in the image.

    Raises:
        FormatError: a shape has no frame, or frames between two shapes have none.
    """
    shapes = []
    for shape in track:
        if not isinstance(shape, LineElement) or shape.tag == 'attribute':
            continue
        text = shape.get('frame', '')
        if not text.isdecimal():
            raise FormatError(f'line {shape.line}: <{shape.tag}> has frame={text!r}: export the task again')
        shapes.append((int(text), shape))
    shapes.sort(key=lambda entry: entry[0])
    for (before, shape), (after, _) in zip(shapes, shapes[1:]):
        between = [number for number in range(before + step, after, step) if number in images]
        if between and not _is_outside(shape):
            raise FormatError(
                f'line {shape.line}: the track {track.get("id", "")} has no shape in frame {between[0]}, '
                f'between {before} and {after}: export from CVAT, which writes every frame'
            )
    return [(number, shape) for number, shape in shapes if not _is_outside(shape)]


def _is_outside(shape: Element) -> bool:
    return shape.get('outside', '0').lower() in ('1', 'true')


def _text(frames: range) -> str:
    last = 'the last' if frames.stop == _NO_END else frames[-1] if frames else frames.start
    step = '' if frames.step == 1 else f' in steps of {frames.step}'
    return f'{frames.start} to {last}{step}'
