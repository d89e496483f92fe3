"""What FFmpeg writes about a damaged video becomes one line that names the file."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from resformer_mm import repairs
from resformer_mm.compat import quiet
from resformer_mm.inference.video_reading import open_video


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A video whose frames OpenCV decodes, although many of their bytes are wrong."""
    path = tmp_path / 'damaged.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 64))
    rng = np.random.default_rng(0)
    for _ in range(8):
        writer.write(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    writer.release()
    content = bytearray(path.read_bytes())
    start = content.index(b'\xff\xda', len(content) // 4) + 20  # the pixels of a frame
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    return path


@pytest.fixture
def told(monkeypatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(repairs, '_told', set())
    monkeypatch.setattr(repairs, 'print_log', lambda text, **_: texts.append(text))
    return texts


def test_a_damaged_video(damaged: Path, told: list[str], monkeypatch, capfd) -> None:
    shown = [frame.tobytes() for frame in open_video(str(damaged))]
    assert len(shown) == 8 and '[mjpeg @' in capfd.readouterr().err and not told
    monkeypatch.setenv(quiet.VARIABLE, 'filtered')
    assert [frame.tobytes() for frame in open_video(str(damaged))] == shown
    assert not capfd.readouterr().err
    [line] = told
    assert line.startswith(f'{damaged}: the decoder reports damage') and '(mjpeg: ' in line


def test_other_lines_are_kept(damaged: Path, told: list[str], monkeypatch, capfd) -> None:
    monkeypatch.setenv(quiet.VARIABLE, 'filtered')
    video = open_video(str(damaged))
    read = video._reader.read

    def read_and_speak() -> np.ndarray | None:
        print('[warn] something else', file=sys.stderr)
        return read()

    monkeypatch.setattr(video._reader, 'read', read_and_speak)
    assert sum(1 for _ in video) == 8
    assert set(capfd.readouterr().err.splitlines()) == {'[warn] something else'}
