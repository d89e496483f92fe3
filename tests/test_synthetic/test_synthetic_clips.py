"""Synthetic clips: readable, reproducible, and with a class that no single frame reveals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import decord
import numpy as np
import pytest
from generated_files import digest
from scipy import stats

from resformer_mm.synthetic import (
    FRAME_RATE,
    MOTIONS,
    FolderConflictError,
    clip_scenes,
    encode_clip,
    motion_path,
    render_image,
    write_clips,
)

SETTINGS = dict(num_train=7, num_val=6, seed=3, size=32, num_frames=9)
OPPOSITE = {'left': 'right', 'up': 'down', 'clockwise': 'anticlockwise'}


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('embedded') / 'data'
    assert write_clips(root, **SETTINGS)
    return root


def places(scene) -> np.ndarray:
    """Where the moving object is, on the torus: its copies all say the same."""
    inside = [item.centre for item in scene.instances if item.label >= 0]
    return np.unique(np.round(np.array(inside) % 1, 9) % 1, axis=0)


@pytest.mark.parametrize('motion', MOTIONS)
def test_a_clip_played_backwards_is_one_of_the_opposite_class(motion: str) -> None:
    opposite = {**OPPOSITE, **{value: key for key, value in OPPOSITE.items()}}[motion]
    path = motion_path(motion, 12, (0.3, 0.8), 0.4, 0.7, 0.15)
    if 'clock' in motion:
        turns = 0.8 + 0.4 * 0.4
        phase = 0.15 + (turns if motion == 'clockwise' else -turns)
        back = motion_path(opposite, 12, (0.3, 0.8), 0.4, 0.7, phase)
    else:
        back = motion_path(opposite, 12, path[-1], 0.4, 0.7, 0.15)
    np.testing.assert_allclose(back, path[::-1], atol=1e-12)


def test_motions_go_where_their_names_say() -> None:
    def steps(motion: str) -> np.ndarray:
        return np.diff(motion_path(motion, 40, (0.5, 0.5), 0.5, 0.5, 0.0), axis=0)

    assert (steps('left')[:, 0] < 0).all() and (steps('right')[:, 0] > 0).all()
    assert (steps('up')[:, 1] < 0).all() and (steps('down')[:, 1] > 0).all()
    assert np.allclose(steps('left')[:, 1], 0) and np.allclose(steps('up')[:, 0], 0)
    # y points down: turning clockwise, each step bends to the right, so that the cross product is positive.
    first = steps('clockwise')
    assert (first[:-1, 0] * first[1:, 1] - first[:-1, 1] * first[1:, 0] > 0).all()


def test_places_do_not_tell_the_class() -> None:
    for label in range(len(MOTIONS)):
        clips = [clip_scenes(1, 'train', 6 * n + label, 3)[0] for n in range(60)]
        for time in range(3):
            found = np.array([places(clip[time])[0] for clip in clips])
            for axis in (0, 1):  # one in 10,000 of such samples of a uniform distribution fails
                assert stats.kstest(found[:, axis], 'uniform').pvalue > 1e-4, (label, time)


def test_everything_but_the_path_is_drawn_without_regard_to_the_class(monkeypatch) -> None:
    from resformer_mm.synthetic import clips

    first, label = clip_scenes(0, 'train', 2, 4)
    monkeypatch.setattr(clips, 'MOTIONS', MOTIONS[::-1])
    second, _ = clip_scenes(0, 'train', 2, 4)
    assert label == 2
    for one, other in zip(first, second):
        assert one.lighting.seed == other.lighting.seed
        still = [[item for item in scene.instances if item.label < 0] for scene in (one, other)]
        assert [item.centre for item in still[0]] == [item.centre for item in still[1]]
        moving = [[item for item in scene.instances if item.label >= 0][0] for scene in (one, other)]
        assert moving[0].size == moving[1].size and moving[0].angle == moving[1].angle
    assert not np.allclose(places(first[-1]), places(second[-1]))


def test_what_leaves_on_one_side_comes_back_on_the_other() -> None:
    scenes, _ = clip_scenes(0, 'train', 0, 24)
    # Alone before an even ground, rolled back by its path, it looks the same in every frame.
    plain = [
        replace(
            scene,
            instances=tuple(item for item in scene.instances if item.label >= 0),
            lighting=replace(scene.lighting, gradient=(0.0, 0.0), noise=0.0),
            background=replace(scene.background, colours=np.full((2, 3), 0.5)),
        )
        for scene in scenes
    ]
    images = [render_image(scene, 64).astype(int) for scene in plain]
    x = [places(scene)[0, 0] for scene in scenes]
    for image, place in zip(images, x):
        moved = np.roll(images[0], round((place - x[0]) * 64), axis=1)
        assert np.abs(moved - image).mean() < 12  # up to half a pixel of rounding along textured edges
    assert len({len(places(scene)) for scene in scenes}) == 1


def test_the_lists_name_the_clips(root: Path) -> None:
    for split, count in (('train', 7), ('val', 6)):
        lines = (root / f'{split}_list.txt').read_text().splitlines()
        assert len(lines) == count
        for index, line in enumerate(lines):
            path, label = line.split()
            assert int(label) == index % 6 and MOTIONS[int(label)] == Path(path).parent.name
            reader = decord.VideoReader(str(root / path))
            assert len(reader) == 9 and reader.get_avg_fps() == FRAME_RATE
            expected = [render_image(scene, 32) for scene in clip_scenes(3, split, index, 9)[0]]
            frames = reader.get_batch(range(9)).asnumpy().astype(int)
            assert frames.shape == (9, 32, 32, 3)
            assert np.abs(frames - np.stack(expected)).mean() < 10


def test_no_frame_depends_on_another() -> None:
    frames = [render_image(scene, 32) for scene in clip_scenes(0, 'val', 1, 6)[0]]
    swapped = encode_clip([frames[0], *frames[5:0:-1]])
    alone = encode_clip(frames)
    for data, order in ((alone, range(6)), (swapped, (0, 5, 4, 3, 2, 1))):
        positions = [data.index(encode_clip([frames[index]])[_payload(frames[index])]) for index in order]
        assert positions == sorted(positions)


def _payload(frame: np.ndarray) -> slice:
    """Where the JPEG of the only frame stands in its file."""
    data = encode_clip([frame])
    start = data.index(b'\xff\xd8')
    return slice(start, data.index(b'\xff\xd9', start) + 2)


def test_the_same_settings_give_the_same_files(root: Path, tmp_path: Path) -> None:
    assert write_clips(tmp_path / 'again', **SETTINGS, workers=2)
    assert digest(tmp_path / 'again') == digest(root)
    before = digest(root)
    assert not write_clips(root, **SETTINGS)
    assert digest(root) == before
    assert json.loads((root / 'manifest.json').read_text())['task'] == 'video'


def test_an_interrupted_run_is_completed(root: Path, tmp_path: Path) -> None:
    target = tmp_path / 'data'
    write_clips(target, **SETTINGS)
    (target / 'manifest.json').rename(target / 'manifest.unfinished.json')
    lost = target / 'val' / 'left' / '000000.avi'
    lost.unlink()
    assert write_clips(target, **SETTINGS)
    assert digest(target) == digest(root)


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (dict(num_frames=1), ValueError, 'num_frames must be at least 2'),
        (dict(size=8), ValueError, 'size must be at least 16'),
        (dict(seed=4), FolderConflictError, 'other settings'),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    root: Path, change: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        write_clips(root, **{**SETTINGS, **change})
