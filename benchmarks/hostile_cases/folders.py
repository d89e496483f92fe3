"""Folders with links and names that lead elsewhere, and what is written beside them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from mmengine.structures import BaseDataElement
from PIL import Image

from resformer_mm.datasets.checks.task_check import CheckOptions, repaired_copy
from resformer_mm.inference.results import ResultFolder
from resformer_mm.inference.sources import Source
from resformer_mm.tasks.classification.data_check import ClassificationCheck
from resformer_mm.tasks.classification.folders import ImageFolder
from resformer_mm.tasks.video.data_check import VideoCheck
from resformer_mm.tasks.video.pictures import ClipVisualizationHook, clip_name

from .case import HARMLESS, Case


def class_folders(folder: Path) -> Path:
    """Write two classes with a picture each."""
    for name in 'ab':
        (folder / name).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / name / 'x.png')
    return folder


def with_links(*pairs: tuple[str, str]) -> Callable[[Path], Path]:
    """Return a function that writes class folders with symbolic links, each a place and its target."""

    def make(folder: Path) -> Path:
        class_folders(folder)
        for place, target in pairs:
            (folder / place).parent.mkdir(exist_ok=True)
            (folder / place).symlink_to(target)
        return folder

    return make


def multiplying_links(folder: Path) -> Path:
    """Write folders, each of which has two links to the next."""
    for level in range(40):
        (folder / f'.{level}').mkdir()
        for link in 'xy':
            (folder / f'.{level}' / link).symlink_to(folder / f'.{level + 1}')
    (folder / '.40').mkdir()
    class_folders(folder)
    (folder / 'a' / 'deep').symlink_to(folder / '.0')
    return folder


def list_classes(folder: Path) -> str:
    """List a folder as training does."""
    return f'{len(ImageFolder(data_root=str(folder), pipeline=[]))} images'


def fix_classes(folder: Path) -> str:
    """Write a repaired copy, as ``tools/check_data.py --fix`` does."""
    check = ClassificationCheck()
    repaired_copy(check, check.below(folder, CheckOptions()), folder.parent / 'out')
    copied = sorted(
        str(path.relative_to(folder.parent / 'out')) for path in (folder.parent / 'out').rglob('*.*')
    )
    return ', '.join(copied)


def with_devices(folder: Path) -> Path:
    """Write class folders with a pipe and links to a device and to another file."""
    class_folders(folder)
    os.mkfifo(folder / 'a' / 'pipe.png')
    (folder / 'a' / 'zero.png').symlink_to('/dev/zero')
    (folder / 'a' / 'link.png').symlink_to('/etc/hostname')
    return folder


def clips_outside(name: str) -> Callable[[Path], Path]:
    """Return a function that writes a list with a clip outside its folder, which exists."""

    def make(folder: Path) -> Path:
        (folder / 'data').mkdir()
        for place in (folder / 'secret.avi', folder / 'data' / 'a.avi'):
            writer = cv2.VideoWriter(str(place), cv2.VideoWriter.fourcc(*'MJPG'), 5, (16, 16))
            writer.write(np.zeros((16, 16, 3), np.uint8))
            writer.release()
        (folder / 'data' / 'train.txt').write_text(f'a.avi 0\n{name.format(folder=folder)} 1\n')
        return folder / 'data'

    return make


def fix_clips(folder: Path) -> str:
    """Write a repaired copy of listed clips."""
    check, out = VideoCheck(), folder.parents[1] / 'out'
    repaired_copy(check, check.below(folder, CheckOptions()), out)
    return ', '.join(sorted(path.name for path in out.rglob('*.*')))


def picture_named(path: str) -> Callable[[Path], tuple[Path, Path]]:
    """Return a function that gives the path of an input, and the folder for its results."""
    return lambda folder: (Path(path), folder.parent / 'out')


def write_results(paths: tuple[Path, Path]) -> str:
    """Write the prediction of an input to a result folder."""
    path, out = paths
    results = ResultFolder(out)
    for _ in range(2):
        results.add(Source(str(path)), {'map': np.zeros((2, 2), np.uint8)}, np.zeros((8, 8, 3), np.uint8))
    results.finish()
    return ', '.join(sorted(file.name for file in out.rglob('*.*')))


def draw_clip(paths: tuple[Path, Path]) -> str:
    """Write the picture of a clip as the hook of a test does."""
    path, out = paths
    hook = ClipVisualizationHook(enable=True, out_dir=str(out))
    hook._put(
        None, np.zeros((8, 8, 3), np.uint8), clip_name(BaseDataElement(metainfo=dict(filename=str(path)))), 0
    )
    return ', '.join(sorted(file.name for file in out.rglob('*.*')))


_ENDLESS, _OUTSIDE = 'never ends', 'writes outside'
CASES = (
    Case(
        'class folder',
        'link to itself',
        _ENDLESS,
        with_links(('a/loop', '.')),
        list_classes,
        'refused',
        'leads back',
    ),
    Case(
        'class folder',
        'two links upwards',
        _ENDLESS,
        with_links(('a/1', '..'), ('b/2', '..')),
        list_classes,
        'refused',
        'leads back',
    ),
    Case(
        'class folder',
        'links that multiply, 2^40 paths',
        _ENDLESS,
        multiplying_links,
        list_classes,
        'refused',
        '100 paths',
    ),
    Case(
        'class folder',
        'link to a folder of another place',
        'none: people do so',
        with_links(('c', 'a')),
        list_classes,
        HARMLESS,
    ),
    Case(
        'copy (--fix)',
        'two links upwards',
        'fills the disk',
        with_links(('a/1', '..'), ('b/2', '..')),
        fix_classes,
        'refused',
        'leads back',
    ),
    Case('copy (--fix)', 'pipe, link to /dev/zero', 'fills the disk', with_devices, fix_classes, HARMLESS),
    Case(
        'copy (--fix)',
        'list with ../secret.avi',
        _OUTSIDE,
        clips_outside('../secret.avi'),
        fix_clips,
        'refused',
        'outside',
    ),
    Case(
        'copy (--fix)',
        'list with an absolute path',
        _OUTSIDE,
        clips_outside('{folder}/secret.avi'),
        fix_clips,
        'refused',
        'outside',
    ),
    Case('results', 'image ../../...png', _OUTSIDE, picture_named('../../...png'), write_results, HARMLESS),
    Case(
        'results',
        'name of 255 bytes',
        'ends the run',
        picture_named(f'/tmp/{"ä" * 125}.png'),
        write_results,
        HARMLESS,
    ),
    Case(
        'results',
        'name with a line break and ESC',
        'steers the terminal',
        picture_named('/tmp/a\n\x1b[2J.png'),
        write_results,
        HARMLESS,
    ),
    Case('results', 'clip /x.mp4', _OUTSIDE, picture_named('/x.mp4'), draw_clip, HARMLESS),
    Case('results', 'clip ../../x.mp4', _OUTSIDE, picture_named('../../x.mp4'), draw_clip, HARMLESS),
)
