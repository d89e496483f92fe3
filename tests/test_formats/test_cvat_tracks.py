"""Tracks of CVAT become boxes of frames; where the images of the frames are not certain, it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resformer_mm.formats.conversion import read_annotations

META = (
    '<meta><task><size>{size}</size><start_frame>{start}</start_frame><stop_frame>{stop}</stop_frame>'
    '<frame_filter>{filter}</frame_filter><labels><label><name>ant</name></label>'
    '<label><name>leaf</name></label></labels></task></meta>'
)


def box(frame: int, left: float, outside: int = 0) -> str:
    sides = f'xtl="{left}" ytl="2" xbr="{left + 4}" ybr="8"'
    return f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" {sides} z_order="0"></box>'


def write(
    root: Path, tracks: str, frames=range(4), size: int = 4, start: int = 0, stop: int = 3, step: str = ''
) -> Path:
    (root / 'images').mkdir(parents=True)
    for number in frames:
        pixels = np.full((20, 30, 3), number % 256, np.uint8)
        Image.fromarray(pixels).save(root / 'images' / f'frame_{number:06}.PNG')
    meta = META.format(size=size, start=start, stop=stop, filter=step)
    (root / 'annotations.xml').write_text(f'<annotations>{meta}{tracks}</annotations>')
    return root


WALK = '<track id="0" label="ant">' + ''.join(box(n, 3 * n, int(n == 3)) for n in range(4)) + '</track>'


def boxes(root: Path) -> dict[str, list]:
    data = read_annotations(root, 'cvat')
    assert data.report.is_sound, data.report.text()
    assert data.classes == ('ant', 'leaf')
    [split] = data.splits
    return {Path(i.file_name).name: [(o.category, *o.box) for o in i.objects] for i in split.images}


def test_a_track_is_a_box_in_every_frame_where_it_is_visible(tmp_path: Path) -> None:
    polygon = '<polygon frame="1" outside="0" occluded="1" points="1,1;5,1;5,6" keyframe="1"></polygon>'
    point = '<points frame="2" outside="0" occluded="0" points="1,1" keyframe="1"></points>'
    leaf = f'<track id="1" label="leaf">{polygon}</track><track id="2" label="leaf">{point}</track>'
    root = write(tmp_path / 'clip', WALK + leaf)
    assert boxes(root) == {
        'frame_000000.PNG': [('ant', 0, 2, 4, 6)],
        'frame_000001.PNG': [('ant', 3, 2, 4, 6), ('leaf', 1, 1, 4, 5)],
        'frame_000002.PNG': [('ant', 6, 2, 4, 6)],
        'frame_000003.PNG': [],
    }
    report = read_annotations(root, 'cvat').report
    assert any('1 shapes <points>' in finding.detail for finding in report.findings)


def test_absolute_numbers_of_a_part_of_a_video(tmp_path: Path) -> None:
    track = f'<track id="0" label="ant">{box(110, 5)}{box(120, 7)}</track>'
    root = write(tmp_path / 'clip', track, (100, 110, 120), 3, 100, 120, 'step=10')
    assert [len(found) for found in boxes(root).values()] == [0, 1, 1]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(tracks=WALK, frames=()), 'no images of the frames'),
        (dict(tracks=WALK, frames=range(1, 5)), 'its frames are 0 to 3, but there is images/frame_000004'),
        (dict(tracks=WALK, frames=(0, 1, 3)), '1 frames with objects have no image, such as 2'),
        # Images that count on where the frames of the video are counted in steps.
        (dict(tracks=WALK, stop=30, step='step=10'), 'in steps of 10, but there is images/frame_000001'),
        (
            dict(tracks=f'<track id="7" label="ant">{box(0, 1)}{box(3, 2)}</track>'),
            'the track 7 has no shape in frame 1, between 0 and 3',
        ),
        (dict(tracks=WALK.replace('<box frame="1"', '<box frame="one"')), "has frame='one'"),
        (
            dict(tracks=WALK.replace('<track ', '<track subset="a" ') + WALK.replace('id="0"', 'id="1"')),
            'tracks of several tasks',
        ),
    ],
)
def test_what_is_not_certain_is_a_fault(tmp_path: Path, settings: dict, message: str) -> None:
    data = read_annotations(write(tmp_path / 'clip', **settings), 'cvat')
    assert message in data.report.text() and not data.report.is_sound
    assert not any(True for _ in data.objects())


def test_two_files_of_the_same_frames(tmp_path: Path) -> None:
    root = write(tmp_path / 'clip', WALK)
    (root / 'again.xml').write_bytes((root / 'annotations.xml').read_bytes())
    report = read_annotations(root, 'cvat').report
    assert 'is a frame of two files' in report.text() and not report.is_sound
