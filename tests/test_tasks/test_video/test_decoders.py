"""PyAV and OpenCV read the frames that decord reads, and take its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clip_files import numbers_of, write_clip, write_noise, write_short_avi, write_sound, write_uneven
from mmengine.config import Config
from small_models import classifier, recognizer

from resformer_mm import repairs
from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.inference import video_reading
from resformer_mm.inference.sources import InputError
from resformer_mm.inference.video_reading import codec_of
from resformer_mm.tasks.video import check, decoders, files, substitutes
from resformer_mm.tasks.video.decoders import DecodingError, OpenCVDecoder, PyAVDecoder
from resformer_mm.tasks.video.files import ClipReader, VideoFileError

KINDS = [
    pytest.param(
        PyAVDecoder, marks=pytest.mark.skipif(decoders.find_spec('av') is None, reason='needs PyAV')
    ),
    OpenCVDecoder,
]
WRITERS = [write_clip, write_noise, write_uneven, write_short_avi]


@pytest.fixture
def no_decord(monkeypatch) -> None:
    """A machine without decord and PyAV."""
    monkeypatch.setattr(files, 'decord', None)
    for module in (decoders, substitutes, video_reading):
        monkeypatch.setattr(module, 'find_spec', lambda name: None)


def other_codec(path: Path) -> Path:
    """Write an MP4 file that says that its frames are AV1."""
    content = write_clip(path).read_bytes()
    assert content.count(b'mp4v') == 1
    # Without the box that tells the truth.
    path.write_bytes(content.replace(b'mp4v', b'av01').replace(b'esds', b'free'))
    return path


def write_av1(path: Path, num_frames: int = 20) -> Path:
    av = pytest.importorskip('av')
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libsvtav1', rate=10, options={'preset': '12', 'crf': '10'})
        stream.width, stream.height, stream.pix_fmt = 64, 64, 'yuv420p'
        for number in range(num_frames):
            pixels = np.full((64, 64, 3), 7 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('write', WRITERS)
def test_frames_are_those_of_decord(kind: type, write, tmp_path: Path) -> None:
    path = write(tmp_path / ('clip.avi' if write is write_short_avi else 'clip.mp4'))
    expected, decoder = ClipReader(str(path)), kind(str(path))
    assert len(decoder) == len(expected)
    assert decoder.get_avg_fps() == pytest.approx(expected.get_avg_fps(), rel=1e-3)
    # The part of the last frame that is missing is filled differently.
    last = len(decoder) - (2 if write is write_short_avi else 1)
    for indices in ([0, 2, last], [3], [last], list(range(last + 1))):
        difference = decoder.get_batch(indices).astype(int) - expected.frames(indices)
        assert np.abs(difference).mean() < 2
    if write is not write_short_avi:  # decord has no times for frames of such files
        np.testing.assert_allclose(np.diff(decoder.times()), np.diff(expected.frame_times()), atol=2e-3)


@pytest.mark.parametrize('kind', KINDS)
def test_frames_are_found_between_key_frames(kind: type, tmp_path: Path) -> None:
    path = write_clip(tmp_path / 'clip.mp4', 36)  # a key frame every 12 frames
    for indices in ([0], [11, 12, 13], [35], [2, 30]):
        assert numbers_of(kind(str(path)).get_batch(indices)) == indices


def test_without_decord_clips_are_read_and_checked(no_decord, tmp_path: Path) -> None:
    path = str(write_clip(tmp_path / 'clip.mp4', 12))
    assert isinstance(ClipReader(path)._reader, OpenCVDecoder)
    assert numbers_of(ClipReader(path).frames([5, 1, 1])) == [5, 1, 1]
    assert check.check_clip(path) == ([], check.ClipFacts(12, 10.0))
    (finding,), facts = check.check_clip(str(write_short_avi(tmp_path / 'short.avi')))
    assert finding.kind == files.TRUNCATED and 'announces 12 frames' in finding.detail and facts is not None
    with pytest.raises(VideoFileError, match='not a video'):
        ClipReader(str(write_sound(tmp_path / 'sound.mp4')))
    with pytest.raises(VideoFileError, match='damaged frames: frames 12 to 12 of 12'):
        ClipReader(path).frames([12])


def test_configs_with_decord_run_without_it(no_decord, tmp_path: Path, monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(substitutes, 'remark', lambda where, what: told.append(f'{where}: {what}'))
    cfg = Config(
        dict(pipelines=[[dict(type='mmaction.DecordInit', num_threads=2)], [dict(type='DecordDecode')]])
    )
    substitutes.replace_decord(cfg._cfg_dict)
    assert cfg.pipelines == [
        [dict(type='resformer_mm.ClipInit', num_threads=2)],
        [dict(type='resformer_mm.ClipDecode')],
    ]
    assert len(told) == 1 and 'decord is not installed' in told[0] and 'pip install av' in told[0]
    substitutes.replace_decord(cfg._cfg_dict)
    assert len(told) == 1
    path = write_clip(tmp_path / 'clip.mp4')
    (prediction,) = make_inferencer(recognizer(), None, 'cpu')(path)['predictions']
    assert prediction['path'] == str(path)


def test_with_decord_configs_stay() -> None:
    config = dict(type='DecordInit')
    substitutes.replace_decord(config)
    assert config == dict(type='DecordInit')


def test_a_codec_without_a_decoder_is_named(tmp_path: Path, monkeypatch) -> None:
    path = other_codec(tmp_path / 'clip.mp4')
    assert codec_of(str(path)) == 'av01'
    for module in (decoders, video_reading):
        monkeypatch.setattr(module, 'find_spec', lambda name: None)
    with pytest.raises(
        InputError, match=r'clip\.mp4 \(codec AV1, which OpenCV cannot decode here: install PyAV'
    ):
        make_inferencer(classifier(), None, 'cpu')(path)
    with pytest.raises(
        VideoFileError, match=r'codec AV1, which OpenCV cannot decode here: install PyAV .*convert'
    ):
        ClipReader(str(path))
    (finding,), _ = check.check_clip(str(path))
    assert finding.kind == files.UNKNOWN_CODEC and 'AV1' in finding.detail


def test_av1_is_decoded_by_pyav(tmp_path: Path) -> None:
    path = write_av1(tmp_path / 'clip.mp4')
    reader = ClipReader(str(path))
    assert isinstance(reader._reader, PyAVDecoder) and len(reader) == 20
    assert numbers_of(reader.frames([0, 7, 19, 3])) == [0, 7, 19, 3]
    assert codec_of(str(path)) == 'av01'
    frames = make_inferencer(classifier(), None, 'cpu')(path)['predictions']
    assert [entry['frame'] for entry in frames] == list(range(20))
    (prediction,) = make_inferencer(recognizer(), None, 'cpu')(path)['predictions']
    assert prediction['path'] == str(path)


@pytest.mark.parametrize('decord', [True, False])
def test_a_truncated_avi_is_reported_by_the_demo(decord: bool, tmp_path: Path, monkeypatch) -> None:
    if not decord:
        monkeypatch.setattr(files, 'decord', None)
    monkeypatch.setattr(repairs, 'print_log', lambda *args, **kwargs: None)
    path = write_short_avi(tmp_path / 'clip.avi', 12)
    result = make_inferencer(recognizer(), None, 'cpu')(tmp_path)
    number = len(ClipReader(str(path)))
    assert 4 <= number < 12 and len(result['predictions']) == 1
    reason = f'ends after {number} frames, the file header says 12'
    assert result['skipped'] == [{'path': str(path), 'reason': reason}]
    whole = write_clip(tmp_path / 'whole.mp4')
    assert not make_inferencer(recognizer(), None, 'cpu')(whole)['skipped']


@pytest.mark.parametrize('kind', KINDS)
def test_frames_that_are_gone_when_they_are_read(kind, tmp_path) -> None:
    path = write_short_avi(tmp_path / 'clip.avi', keep=1.0)
    decoder = kind(str(path))
    write_short_avi(path)
    with pytest.raises(DecodingError, match=rf'frame {len(decoder) - 1} of {len(decoder)} cannot be decoded'):
        decoder.get_batch([len(decoder) - 1])
    path.write_bytes(b'nothing')
    with pytest.raises(DecodingError, match='Error reading'):
        decoder.get_batch([0])


def test_a_sound_without_frames(tmp_path) -> None:
    pytest.importorskip('av')
    with pytest.raises(DecodingError, match='cannot find video stream'):
        PyAVDecoder(str(write_sound(tmp_path / 'sound.mp4')))


def test_a_packet_that_pyav_refuses(tmp_path, monkeypatch) -> None:
    av = pytest.importorskip('av')
    decoder = PyAVDecoder(str(write_clip(tmp_path / 'clip.mp4')))

    def refuse(*_: object) -> None:
        raise av.error.InvalidDataError(1, 'invalid data')

    monkeypatch.setattr(decoder, '_frames', refuse)
    with pytest.raises(DecodingError, match='invalid data'):
        decoder.get_batch([0])
