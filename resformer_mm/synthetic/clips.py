"""Synthetic video data set: clips of one moving object, with Kinetics-style lists.

The class is the motion alone. The scene is a torus: an object that leaves the image on one side returns on
the other. In every class and at every time, all positions are therefore equally likely. Appearance, start
position and speed are drawn independently of the class. A single frame thus contains no information about
the class, and neither does an unordered set of frames: a motion to the left played backwards is a motion to
the right, and a clockwise motion becomes anticlockwise.
"""

from __future__ import annotations

import functools
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from .image_folder import SPLITS
from .render import render_image
from .scene import CLASSES, Instance, Scene, sample_object, sample_scene
from .writing import Track, check_at_least, untracked, write_once

MOTIONS = ('left', 'right', 'up', 'down', 'clockwise', 'anticlockwise')
"""Class names; a label is an index into this tuple. Each pair contains opposite motions."""

CLIP_SIZE_RANGE = (0.28, 0.46)
"""Smallest and largest object; see :attr:`Instance.size`."""

FRAME_RATE = 8

_DISTANCE = (0.8, 1.4)  # length of a straight path in scene units
_TURNS = (0.8, 1.2)  # number of turns of a circular path
_RADIUS = (0.24, 0.36)  # radius of a circular path in scene units
_DIM = 0.5  # relative brightness of everything static
_BRIGHT = 0.55  # minimum brightness of the moving object
_DIRECTIONS = {'left': (-1, 0), 'right': (1, 0), 'up': (0, -1), 'down': (0, 1)}
_QUALITY = 90


def motion_path(
    motion: str,
    num_frames: int,
    start: Sequence[float] | np.ndarray,
    speed: float,
    radius: float,
    phase: float,
) -> np.ndarray:
    """Return the position of the object in each frame: ``(T, 2)``, x and y in scene units, not wrapped.

    Args:
        motion: A name in ``MOTIONS``.
        num_frames: T.
        start: Position in the first frame; for a circle, its centre.
        speed: From 0 to 1, slowest to fastest.
        radius: From 0 to 1, smallest to largest circle; unused for straight motions.
        phase: Position on the circle in the first frame, in turns; unused for straight motions.
    """
    time = np.linspace(0, 1, num_frames)[:, None]
    if motion in _DIRECTIONS:
        low, high = _DISTANCE
        return np.asarray(start) + time * (low + speed * (high - low)) * np.array(_DIRECTIONS[motion])
    turns = _TURNS[0] + speed * (_TURNS[1] - _TURNS[0])
    # y points down, so increasing angles turn clockwise.
    angle = 2 * math.pi * (phase + turns * time * (1 if motion == 'clockwise' else -1))
    distance = _RADIUS[0] + radius * (_RADIUS[1] - _RADIUS[0])
    return np.asarray(start) + distance * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def clip_scenes(seed: int, split: str, index: int, num_frames: int = 32) -> tuple[list[Scene], int]:
    """Return the scenes of all frames of a clip, and its label. They depend only on the arguments.

    The background, the clutter and the lighting are static and dim. The object moves in front of the clutter
    and is bright, so that few clips suffice to learn which of the objects moves.

    Args:
        seed: Seed of the data set, not negative.
        split: ``'train'`` or ``'val'``.
        index: Index of the clip; labels repeat cyclically.
        num_frames: Length of the clip in frames.
    """
    label = index % len(MOTIONS)
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), index]))
    static = _dimmed(sample_scene(rng, []))
    moving = sample_object(rng, int(rng.integers(len(CLASSES))), size_range=CLIP_SIZE_RANGE)
    moving = _recoloured(moving, _BRIGHT + (1 - _BRIGHT) * moving.texture.colours)
    # Every motion draws the same numbers.
    start, (speed, radius, phase) = rng.uniform(size=2), rng.uniform(size=3)
    noise = rng.integers(2**31, size=num_frames).tolist()
    path = motion_path(MOTIONS[label], num_frames, start, speed, radius, phase)
    scenes = [
        replace(
            static,
            instances=(*static.instances, *_wrapped(moving, place)),
            lighting=replace(static.lighting, seed=frame_noise),
        )
        for place, frame_noise in zip(path, noise, strict=True)
    ]
    return scenes, label


def _recoloured(instance: Instance, colours: np.ndarray) -> Instance:
    return replace(instance, texture=replace(instance.texture, colours=colours))


def _dimmed(scene: Scene) -> Scene:
    instances = tuple(_recoloured(item, _DIM * item.texture.colours) for item in scene.instances)
    background = replace(scene.background, colours=_DIM * scene.background.colours)
    return replace(scene, instances=instances, background=background)


def _wrapped(instance: Instance, place: np.ndarray) -> list[Instance]:
    """Return the copies of an instance at a position on the torus that overlap the image."""
    copies = []
    for shift in np.ndindex(3, 3):
        x, y = (place % 1 + np.array(shift) - 1).tolist()
        copy = replace(instance, centre=(x, y))
        low, high = copy.polygon().min(axis=0), copy.polygon().max(axis=0)
        if (high > 0).all() and (low < 1).all():
            copies.append(copy)
    return copies


def encode_clip(frames: Sequence[np.ndarray]) -> bytes:
    """Encode RGB uint8 frames ``(H, W, 3)`` as AVI with Motion JPEG.

    Every frame is compressed separately. A codec that predicts frames from others would leave artefacts
    around a moving object, which would reveal its motion in a single frame.

    Raises:
        RuntimeError: this OpenCV build cannot write AVI files.
    """
    height, width = frames[0].shape[:2]
    with tempfile.TemporaryDirectory() as folder:  # OpenCV can only write videos to files
        path = Path(folder, 'clip.avi')
        code = cv2.VideoWriter.fourcc(*'MJPG')
        writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, code, FRAME_RATE, (width, height))
        if not writer.isOpened():
            raise RuntimeError('this OpenCV build cannot write *.avi files: install one that can')
        writer.set(cv2.VIDEOWRITER_PROP_QUALITY, _QUALITY)
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
        return path.read_bytes()


def _clip_paths(root: Path, clip: tuple[str, int]) -> list[Path]:
    split, index = clip
    return [root / split / MOTIONS[index % len(MOTIONS)] / f'{index:06d}.avi']


def _write_clip(root: Path, seed: int, size: int, num_frames: int, clip: tuple[str, int]) -> None:
    scenes, _ = clip_scenes(seed, *clip, num_frames)
    [path] = _clip_paths(root, clip)
    path.write_bytes(encode_clip([render_image(scene, size) for scene in scenes]))


def write_clips(
    root: str | os.PathLike,
    num_train: int = 480,
    num_val: int = 120,
    seed: int = 0,
    size: int = 64,
    workers: int = 1,
    num_frames: int = 32,
    track: Track = untracked,
) -> bool:
    """Write the video data set, unless it already exists.

    Creates ``ROOT/{train,val}/MOTION/*.avi`` and the lists ``ROOT/{train,val}_list.txt`` with a line ``PATH
    LABEL`` for every clip; paths are relative to ``ROOT``. The objects are those of
    :func:`write_image_folder`. As there, the files depend only on the settings, calling again completes an
    unfinished run, and nothing is ever deleted.

    Args:
        root: Folder to write; absent, empty, or written by this function with the same settings.
        num_train: Number of training clips; labels are balanced.
        num_val: Number of validation clips.
        seed: Seed of all randomness.
        size: Height and width in pixels.
        workers: Number of processes. With more than one, the code of the calling script must be guarded by
            ``if __name__ == '__main__':``.
        num_frames: Length of every clip in frames.
        track: See :func:`write_image_folder`.

    Returns:
        True if the clips were written, False if they already existed.

    Raises:
        ValueError: If a number is out of range.
        FolderConflictError: If ``root`` is a file, or contains other files or other settings.
    """
    check_at_least(
        num_train=(num_train, 1),
        num_val=(num_val, 1),
        seed=(seed, 0),
        size=(size, 16),
        workers=(workers, 1),
        num_frames=(num_frames, 2),
    )
    root = Path(root)
    settings = {
        'task': 'video',
        'seed': seed,
        'num_train': num_train,
        'num_val': num_val,
        'size': size,
        'num_frames': num_frames,
        'classes': list(MOTIONS),
    }
    counts = dict(zip(SPLITS, (num_train, num_val), strict=True))
    clips = [(split, index) for split, count in counts.items() for index in range(count)]
    texts = {f'{split}_list.txt': _list(root, split, count) for split, count in counts.items()}
    folders = [f'{split}/{motion}' for split in SPLITS for motion in MOTIONS]
    write = functools.partial(_write_clip, root, seed, size, num_frames)
    return write_once(root, settings, folders, clips, _clip_paths, write, workers, texts, track=track)


def _list(root: Path, split: str, count: int) -> str:
    """Return the content of a list file."""
    lines = []
    for index in range(count):
        [path] = _clip_paths(root, (split, index))
        lines.append(f'{path.relative_to(root).as_posix()} {index % len(MOTIONS)}\n')
    return ''.join(lines)
