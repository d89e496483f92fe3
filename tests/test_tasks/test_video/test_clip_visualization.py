"""Names of the pictures of clips."""

from __future__ import annotations

import pytest
from mmengine.structures import BaseDataElement

from resformer_mm.tasks.video.pictures import clip_name


@pytest.mark.parametrize(
    ('meta', 'prefixes', 'name'),
    [
        (dict(filename='data/val/left/a.mp4'), ['data'], 'val_left_a'),
        (dict(filename='data/val/left/a.mp4'), ['elsewhere', 'data/val'], 'left_a'),
        (dict(filename='data/val/left/a.mp4'), [], 'left_a'),
        (dict(filename='a.mp4'), [], 'a'),
        (dict(frame_dir='frames/clip.1'), ['frames'], 'clip.1'),
        ({}, ['data'], 'clip'),
    ],
)
def test_names_tell_clips_apart(meta: dict, prefixes: list[str], name: str) -> None:
    assert clip_name(BaseDataElement(metainfo=meta), prefixes) == name
