"""Videos are written with a rate and a codec that players accept."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from resformer_mm.inference import video_files
from resformer_mm.inference.video_files import VideoFile, writable_rate


@pytest.fixture
def told(monkeypatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(video_files, 'remark', lambda where, what: texts.append(f'{where}: {what}'))
    return texts


@pytest.mark.parametrize('fps', [211.222, 23.976, 29.97002997, 25, 0.5, 1000.0])
def test_rates_of_videos_are_kept(fps: float, told: list[str]) -> None:
    rate = writable_rate(fps, 'v.mp4')
    assert abs(float(rate) - fps) < 2e-4 * fps and rate.numerator <= 65535 and rate.denominator <= 65535
    assert not told


@pytest.mark.parametrize('fps', [90000.0, float('nan'), float('inf'), 0.0, -5.0, 0.001])
def test_rates_of_damaged_headers_are_replaced(fps: float, told: list[str]) -> None:
    assert writable_rate(fps, 'v.mp4') == 25
    assert len(told) == 1 and told[0].startswith('v.mp4: ') and 'written with 25' in told[0]


def test_an_unknown_rate_needs_no_word(told: list[str]) -> None:
    assert writable_rate(None, 'v.mp4') == Fraction(25) and not told


def write(path: Path, fps: float) -> list[np.ndarray]:
    frames = [np.full((37, 51, 3), (60 * number, 30, 200), np.uint8) for number in range(4)]
    with VideoFile(path, fps) as video:
        for frame in frames:
            video.write(frame)
    return frames


@pytest.mark.parametrize('fps', [211.222, 90000.0])
@pytest.mark.parametrize('encoders', [3, 2, 1])
def test_every_encoder_writes_what_can_be_read(tmp_path, fps, encoders, told, monkeypatch) -> None:
    makers = [video_files._H264, video_files._OpenCV.with_vp9, video_files._OpenCV.with_mpeg4][-encoders:]
    if encoders == 3:
        pytest.importorskip('av')

    def refuse(*args):
        raise OSError

    if encoders < 3:
        monkeypatch.setattr(video_files, '_H264', refuse)
    if encoders < 2:
        monkeypatch.setattr(video_files._OpenCV, 'with_vp9', refuse)
    frames = write(tmp_path / 'v.mp4', fps)
    capture = cv2.VideoCapture(str(tmp_path / 'v.mp4'))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(211.2 if fps < 1000 else 25, rel=1e-3)
    for frame in frames:
        ok, read = capture.read()
        assert (
            ok
            and read.shape == (38, 52, 3)
            and np.abs(read[:37, :51, ::-1].mean((0, 1)) - frame.mean((0, 1))).max() < 8
        )
    assert not capture.read()[0]
    code = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, 'little').decode()
    assert code in {3: ('avc1', 'h264'), 2: ('vp09', 'VP90'), 1: ('mp4v', 'FMP4')}[encoders]
    assert any('MPEG-4' in text for text in told) == (encoders == 1) and makers


def test_why_a_video_cannot_be_written(tmp_path, monkeypatch) -> None:
    """A folder of this name is not a missing library."""
    (tmp_path / 'folder.mp4').mkdir()
    with pytest.raises(OSError, match=r'cannot write the video .*folder\.mp4: Is a directory$'):
        write(tmp_path / 'folder.mp4', 25)
    monkeypatch.setitem(sys.modules, 'av', None)

    def writer(*_: object) -> SimpleNamespace:
        return SimpleNamespace(isOpened=lambda: False)

    writer.fourcc = cv2.VideoWriter.fourcc
    monkeypatch.setattr(cv2, 'VideoWriter', writer)
    with pytest.raises(OSError, match=r'v\.mp4: PyAV is not installed \(pip install av\); OpenCV'):
        write(tmp_path / 'v.mp4', 25)
