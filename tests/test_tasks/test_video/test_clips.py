"""Loading of clips and of several copies: bad files are reported, and each frame is decoded once."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clip_files import (
    numbers_of,
    write_clip,
    write_damaged,
    write_short_avi,
    write_sound,
    write_truncated,
    write_uneven,
)
from mmengine.fileio import LocalBackend, register_backend
from mmengine.registry import TRANSFORMS, init_default_scope

from resformer_mm.compat import prepare_mmaction
from resformer_mm.datasets.collate import multi_resolution_collate
from resformer_mm.datasets.samplers import ResolutionIndex
from resformer_mm.tasks.video import files as video_files

prepare_mmaction()
import mmaction.datasets  # noqa: E402, F401

from resformer_mm.tasks.video.clips import ClipDecode, ClipInit, ClipReadError, PackClips  # noqa: E402
from resformer_mm.tasks.video.multi_resolution_clips import MultiResolutionClips  # noqa: E402

RESIZE = dict(type='Resize', scale=('{resolution}', '{resolution}'), keep_ratio=False)
SHAPE = dict(type='FormatShape', input_format='NCTHW')


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmaction')


def opened(path: Path | str, **kwargs) -> dict:
    return ClipInit(**kwargs)(dict(filename=str(path), start_index=0, modality='RGB', label=1))


def copies_of(path: Path, index: int | None = None, crops: Sequence[dict] = (), **kwargs) -> list[np.ndarray]:
    clips = MultiResolutionClips(transforms=[*crops, RESIZE, SHAPE], **kwargs)
    return clips({**opened(path), 'sample_idx': index})['imgs']


def write_picture(path: Path) -> Path:
    path.write_bytes(cv2.imencode('.jpg', np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    return path


def frames_of(clip: np.ndarray) -> list[int]:
    return numbers_of(clip[0].transpose(1, 0, 2, 3))


def test_sampled_frames_are_those_of_mmaction(tmp_path: Path) -> None:
    path = str(write_clip(tmp_path / 'a clip.mp4', 30))
    sample = dict(type='SampleFrames', clip_len=4, frame_interval=5)
    mine = [dict(type='resformer_mm.ClipInit'), sample, dict(type='resformer_mm.ClipDecode')]
    theirs = [dict(type='DecordInit'), sample, dict(type='DecordDecode')]
    results = []
    for steps in (mine, theirs):
        np.random.seed(1)
        result = dict(filename=path, start_index=0)
        for step in steps:
            result = TRANSFORMS.build(step)(result)
        results.append(result)
    np.testing.assert_array_equal(*(np.stack(result['imgs']) for result in results))
    assert numbers_of(results[0]['imgs']) == results[0]['frame_inds'].tolist()
    assert results[0]['img_shape'] == results[0]['original_shape'] == (48, 64)
    packed = PackClips()(TRANSFORMS.build(SHAPE)(results[0]))
    assert packed['inputs'].shape == (1, 3, 4, 48, 64) and packed['data_samples'].filename == path


@pytest.mark.parametrize(
    ('broken', 'kind'),
    [
        (lambda path: path, 'missing file'),
        (lambda path: path.touch() or path, 'empty file'),
        (lambda path: path.write_text('no video' * 99) and path, 'not a video'),
        (write_picture, 'not a video'),
        (write_sound, 'no video stream'),
        (write_truncated, 'truncated'),
        (lambda path: write_truncated(path, index_first=False), 'missing its end'),
        (write_damaged, 'damaged frames'),
    ],
)
def test_bad_files_are_named_or_skipped_at_once(tmp_path: Path, broken, kind: str) -> None:
    path = broken(tmp_path / 'clip.mp4')
    copies = MultiResolutionClips([32], [RESIZE, SHAPE], num_frames=4, frame_interval=3)
    start = time.monotonic()
    message = f'cannot read the video {path}.*{kind}.*on_error=.skip.'
    with pytest.raises(ClipReadError, match=message) as caught:
        copies(opened(path))
    assert '.cc:' not in str(caught.value)  # the source code of the decoder
    init = ClipInit(on_error='skip')
    results = init(dict(filename=str(path), start_index=0))
    assert results is None or copies(results) is None
    assert init.num_skipped == 1
    results = init(dict(filename=str(path), start_index=0))
    assert results is None or ClipDecode()({**results, 'frame_inds': np.arange(12)}) is None
    assert init.num_skipped == 2
    assert time.monotonic() - start < 20


def test_a_truncated_avi_gives_the_frames_that_it_has(tmp_path: Path) -> None:
    results = opened(write_short_avi(tmp_path / 'clip.avi', 12, keep=0.6))
    assert 4 <= results['total_frames'] < 12
    frames = results['video_reader'].frames(range(results['total_frames']))
    assert frames.shape[1:] == (64, 64, 3)


def test_frames_of_uneven_length_are_read_by_number(tmp_path: Path) -> None:
    results = opened(write_uneven(tmp_path / 'clip.mp4', 12))
    reader = results['video_reader']
    lengths = np.diff(reader.frame_times())
    assert lengths[0] == pytest.approx(3 * lengths[-1])
    for order in ([0, 5, 6, 11], [11, 2, 7], [8]):
        assert numbers_of(reader.frames(order)) == order


@pytest.mark.parametrize('width', [8, 16, 24, 32, 48, 50, 72, 74])
def test_frames_of_any_width_are_decoded(tmp_path: Path, width: int) -> None:
    """decord pads the rows of some, and then refuses to give several frames at once."""
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, (width, 40))
    ramp = np.linspace(0, 255, width)[None, None, :, None] * np.array([0.2, 0.5, 1.0])
    frames = np.broadcast_to(ramp, (6, 40, width, 3)).copy()
    frames[:, :20] *= np.arange(6)[:, None, None, None] / 5
    for frame in frames.astype(np.uint8):
        writer.write(frame)
    writer.release()
    decoded = opened(path)['video_reader'].frames([5, 0, 3, 3])
    assert decoded.shape == (4, 40, width, 3) and decoded.dtype == np.uint8
    difference = np.abs(decoded - frames[[5, 0, 3, 3]][..., ::-1])
    assert difference.mean() < 6 and (decoded[1] == opened(path)['video_reader'].frames([0])[0]).all()


def test_a_file_that_takes_forever_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(video_files.decord, 'VideoReader', lambda *args, **kwargs: release.wait(60))
    path = write_clip(tmp_path / 'clip.mp4')
    try:
        with pytest.raises(ClipReadError, match=r'clip\.mp4 \(not read in time: not done within 0.2 seconds'):
            opened(path, timeout=0.2)
        waiting = [thread for thread in threading.enumerate() if thread.name == 'clip']
        assert waiting and all(thread.daemon for thread in waiting)  # the worker can end without it
    finally:
        release.set()


def test_copies_show_the_same_frames_and_each_is_decoded_once(tmp_path: Path) -> None:
    results = opened(write_clip(tmp_path / 'clip.mp4', 30))
    reader = results['video_reader']
    asked = []
    decode = reader._reader.get_batch
    reader._reader.get_batch = lambda indices: asked.extend(indices) or decode(indices)
    clips = MultiResolutionClips([64, 48, 32], [RESIZE, SHAPE], num_frames=4, frame_interval=5)(results)[
        'imgs'
    ]
    assert [clip.shape for clip in clips] == [(1, 3, 4, size, size) for size in (64, 48, 32)]
    first = frames_of(clips[0])
    assert frames_of(clips[1]) == frames_of(clips[2]) == first == asked
    assert np.diff(first).tolist() == [5, 5, 5]


def test_space_time_copies_share_one_window(tmp_path: Path) -> None:
    path = write_clip(tmp_path / 'clip.mp4', 34)
    starts = set()
    for seed in range(12):
        np.random.seed(seed)
        clips = copies_of(path, resolutions=[32, 16, 16], num_frames=[8, 4, 2], frame_interval=[3, 4, 2])
        assert [clip.shape[2:] for clip in clips] == [(8, 32, 32), (4, 16, 16), (2, 16, 16)]
        wide, middle, narrow = map(frames_of, clips)
        starts.add(wide[0])
        assert wide == list(range(wide[0], wide[0] + 24, 3)) and wide[0] <= 10
        assert middle == list(range(wide[0] + 4, wide[0] + 20, 4))
        assert narrow == [wide[0] + 10, wide[0] + 12]
    assert len(starts) > 4


def test_copies_may_differ_in_the_interval_alone(tmp_path: Path) -> None:
    path = write_clip(tmp_path / 'clip.mp4', 9)
    wide, narrow = copies_of(path, resolutions=[32, 32], num_frames=3, frame_interval=[3, 1])
    assert (frames_of(wide), frames_of(narrow)) == ([0, 3, 6], [3, 4, 5])


def test_the_window_is_drawn_as_by_mmaction(tmp_path: Path) -> None:
    path = write_clip(tmp_path / 'clip.mp4', 30)
    sampler = TRANSFORMS.build(dict(type='SampleFrames', clip_len=4, frame_interval=4))
    for seed in range(5):
        np.random.seed(seed)
        [clip] = copies_of(path, resolutions=[32], num_frames=4, frame_interval=4)
        np.random.seed(seed)
        assert frames_of(clip) == sampler(dict(total_frames=30, start_index=0))['frame_inds'].tolist()


@pytest.mark.parametrize(
    ('option', 'expected'),
    [
        ('loop', [[0, 2, 4, 1, 3, 0, 2, 4], [0, 4, 3, 2], [1, 2]]),
        ('repeat_last', [[0, 2, 4, 4, 4, 4, 4, 4], [0, 4, 4, 4], [1, 2]]),
    ],
)
def test_a_clip_shorter_than_the_window(tmp_path: Path, option: str, expected: list) -> None:
    path = write_clip(tmp_path / 'clip.mp4', 5)
    settings = dict(resolutions=[48, 32, 16], num_frames=[8, 4, 2], frame_interval=[2, 4, 1])
    assert [frames_of(clip) for clip in copies_of(path, out_of_bound_opt=option, **settings)] == expected
    [clip] = copies_of(
        write_clip(tmp_path / 'one.mp4', 1), resolutions=[16], num_frames=3, out_of_bound_opt=option
    )
    assert frames_of(clip) == [0, 0, 0]


def test_copies_do_not_share_memory(tmp_path: Path) -> None:
    flip = dict(type='Flip', flip_ratio=1.0)  # in place
    results = opened(write_clip(tmp_path / 'clip.mp4', 2))
    frames = np.arange(48)[None, None, :, None].repeat(2, 0).repeat(32, 1).repeat(3, 3).astype(np.uint8)
    results['video_reader'].frames = lambda indices: frames[np.asarray(indices)]
    clips = MultiResolutionClips([32, 16], [flip, RESIZE, SHAPE], num_frames=4, frame_interval=1)(results)
    for clip in clips['imgs']:
        assert (clip[..., 0] > clip[..., -1]).all()


def test_the_resolution_of_a_batch(tmp_path: Path) -> None:
    path = write_clip(tmp_path / 'clip.mp4')
    settings = dict(resolutions=[32, 16, 16], num_frames=[2, 2, 1], frame_interval=1)
    assert [clip.shape[-1] for clip in copies_of(path, ResolutionIndex(0, 32), **settings)] == [32]
    assert [clip.shape[2] for clip in copies_of(path, ResolutionIndex(0, 16), **settings)] == [2, 1]
    with pytest.raises(ValueError, match='drew resolution 24.*give both the same list'):
        copies_of(path, ResolutionIndex(0, 24), **settings)


def test_drawn_resolutions_out_of_a_range(tmp_path: Path) -> None:
    path = write_clip(tmp_path / 'clip.mp4')
    settings = dict(resolutions=dict(low=16, high=40, step=8), num_frames=2, frame_interval=1)
    assert [clip.shape[-1] for clip in copies_of(path, **settings)] == [40, 32, 24, 16]
    assert [clip.shape[-1] for clip in copies_of(path, ResolutionIndex(0, 40, 16), **settings)] == [40, 16]
    with pytest.raises(ValueError, match='drew resolution 20.*give both the same list'):
        copies_of(path, ResolutionIndex(0, 40, 20), **settings)
    with pytest.raises(ValueError, match=r'MultiResolutionClips\.resolutions: steps of 9'):
        copies_of(path, **dict(settings, resolutions=dict(low=16, high=40, step=9)))


def test_packed_and_collated(tmp_path: Path) -> None:
    batch = []
    for name in 'ab':
        results = opened(write_clip(tmp_path / f'{name}.mp4', 20, size=(90, 70)))
        clips = MultiResolutionClips([32, 16], [RESIZE, SHAPE], num_frames=[3, 2], frame_interval=2)
        batch.append(PackClips()(clips(results)))
    data = multi_resolution_collate(batch)
    assert [tuple(clip.shape) for clip in data['inputs']] == [(2, 1, 3, 3, 32, 32), (2, 1, 3, 2, 16, 16)]
    assert all(clip.dtype == torch.uint8 for clip in data['inputs'])
    assert [Path(sample.filename).name for sample in data['data_samples']] == ['a.mp4', 'b.mp4']
    assert [sample.gt_label.item() for sample in data['data_samples']] == [1, 1]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(resolutions=[32, 64]), 'must be listed high to low'),
        (dict(resolutions=[32, 16, 32]), r'= \[32, 16, 32\] must be listed high to low: \[32, 32, 16\]'),
        (dict(resolutions=[]), 'is empty'),
        (dict(resolutions=32), 'must be a list'),
        (dict(resolutions=[32, 16], num_frames=[8]), 'num_frames has 1 entries, but resolutions has 2'),
        (dict(resolutions=[32], frame_interval=0), 'frame_interval contains 0'),
        (dict(resolutions=[32, 32]), 'two copies have 8 frames at intervals of 32 and resolution 32'),
        (dict(resolutions=[32], num_frames=8.0), 'num_frames contains 8.0'),
        (dict(resolutions=[32], num_frames='8'), "num_frames contains '8'"),
        (dict(resolutions=[32], out_of_bound_opt='stop'), "'loop' or 'repeat_last'"),
        (dict(resolutions=[32], transforms=[SHAPE]), 'never use.*Resize'),
        (dict(resolutions=[32], transforms=SHAPE), 'never use'),
    ],
)
def test_settings_that_make_no_sense(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiResolutionClips(**{'transforms': [RESIZE, SHAPE], **settings})


def test_who_opens_the_file(tmp_path: Path) -> None:
    theirs = TRANSFORMS.build(dict(type='DecordInit'))
    results = theirs(dict(filename=str(write_clip(tmp_path / 'clip.mp4')), start_index=0))
    for step in (ClipDecode(), MultiResolutionClips([32], [RESIZE, SHAPE])):
        with pytest.raises(TypeError, match='resformer_mm.ClipInit'):
            step({**results, 'frame_inds': np.arange(2)})
    with pytest.raises(ValueError, match="on_error='stop'"):
        ClipInit(on_error='stop')
    for setting in (dict(timeout=0), dict(timeout='60'), dict(num_threads=-1), dict(num_threads='2')):
        with pytest.raises(ValueError, match=f'ClipInit: {next(iter(setting))}='):
            ClipInit(**setting)
    with pytest.raises(
        ValueError, match="backend_args=.'backend': 'nowhere'. does not specify a file backend"
    ):
        ClipInit(backend_args=dict(backend='nowhere'))


def test_pipelines_that_make_no_clip(tmp_path: Path) -> None:
    path = write_clip(tmp_path / 'clip.mp4')
    frames = MultiResolutionClips([32, 16], [RESIZE], num_frames=2, frame_interval=2)(opened(path))
    with pytest.raises(ValueError, match=r"got frames: put dict\(type='FormatShape', input_format='NCTHW'"):
        PackClips()(frames)
    crop = dict(type='RandomCrop', size=50)
    with pytest.raises(
        RuntimeError, match=r'resolution 32 for .*clip\.mp4 with 48 x 64 pixels.*AssertionError'
    ):
        copies_of(path, resolutions=[32], crops=[crop])


@register_backend('elsewhere')
class Elsewhere(LocalBackend):
    """Files whose names begin with another word than those on disk, copied before they are read."""

    def isfile(self, filepath: str) -> bool:
        return filepath == 'elsewhere:cut' or super().isfile(filepath.removeprefix('elsewhere:'))

    @contextmanager
    def get_local_path(self, filepath: str) -> Iterator[str]:
        if filepath == 'elsewhere:cut':
            raise ConnectionError('the line is cut')
        with tempfile.TemporaryDirectory() as folder:
            yield shutil.copy(filepath.removeprefix('elsewhere:'), folder)


def test_storage_that_is_not_local(tmp_path: Path) -> None:
    path = write_clip(tmp_path / 'clip.mp4', 8)
    results = opened(f'elsewhere:{path}', backend_args=dict(backend='elsewhere'))
    assert numbers_of(results['video_reader'].frames([7, 1])) == [7, 1]
    with pytest.raises(ClipReadError, match='missing file'):
        opened(f'elsewhere:{tmp_path}/none.mp4', backend_args=dict(backend='elsewhere'))
    with pytest.raises(ClipReadError, match='not fetched from storage: ConnectionError: the line is cut'):
        opened('elsewhere:cut', backend_args=dict(backend='elsewhere'))
