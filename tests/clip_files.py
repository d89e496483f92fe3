"""Small video files, sound and broken, shared by the tests of clips."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import cv2
import numpy as np

STEP = 7  # gray levels from one frame to the next


def write_clip(path: Path, num_frames: int = 12, size: tuple[int, int] = (64, 48), fps: int = 10) -> Path:
    """Write an MP4 file of ``(width, height)`` pixels whose frame ``i`` is gray of level ``STEP * i``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), fps, size)
    assert writer.isOpened()
    for index in range(num_frames):
        writer.write(np.full((size[1], size[0], 3), min(STEP * index, 255), np.uint8))
    writer.release()
    return path


def numbers_of(frames) -> list[int]:
    """Return which frames of a clip of :func:`write_clip` these are, by their gray levels."""
    return [round(float(np.asarray(frame, np.float32).mean()) / STEP) for frame in frames]


def write_noise(path: Path, num_frames: int = 12) -> Path:
    """Write an MP4 file of noise, big enough to be cut."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 10, (64, 64))
    for frame in np.random.default_rng(0).integers(0, 256, (num_frames, 64, 64, 3), dtype=np.uint8):
        writer.write(frame)
    writer.release()
    return path


def write_truncated(path: Path, keep: float = 0.6, index_first: bool = True) -> Path:
    """Write the first part of an MP4 file, whose index stands before the frames or behind them."""
    content = write_noise(path).read_bytes()
    if index_first:
        content = _index_first(content)
    path.write_bytes(content[: int(keep * len(content))])
    return path


def write_damaged(path: Path) -> Path:
    """Write an MP4 file that opens, but whose last frames are zeros."""
    content = bytearray(_index_first(write_noise(path).read_bytes()))
    start = int(0.6 * len(content))
    content[start:] = bytes(len(content) - start)
    path.write_bytes(content)
    return path


def write_short_avi(path: Path, num_frames: int = 12, keep: float = 0.6) -> Path:
    """Write an AVI file that announces more frames than it has."""
    code = cv2.VideoWriter.fourcc(*'MJPG')
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, code, 10, (64, 64))
    for frame in np.random.default_rng(0).integers(0, 256, (num_frames, 64, 64, 3), dtype=np.uint8):
        writer.write(frame)
    writer.release()
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    return path


def write_sound(path: Path) -> Path:
    """Write a file with sound and without pictures."""
    with wave.open(str(path), 'wb') as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    return path


def write_uneven(path: Path, num_frames: int = 12) -> Path:
    """Write an MP4 file in which the first half of the frames is shown three times as long as the second."""
    content = write_clip(path, num_frames).read_bytes()
    start = content.index(b'stts') - 4
    size, _, flags, count, number, duration = struct.unpack('>I4sIIII', content[start : start + 24])
    assert (size, count, number) == (24, 1, num_frames) and num_frames % 2 == duration % 2 == 0
    half = num_frames // 2
    table = struct.pack('>I4sII', 32, b'stts', flags, 2)
    table += struct.pack('>IIII', half, 3 * duration // 2, num_frames - half, duration // 2)
    content = bytearray(content[:start] + table + content[start + 24 :])
    # The boxes around the table are longer by one entry; the index stands behind the frames, which stay.
    for box in (b'moov', b'trak', b'mdia', b'minf', b'stbl'):
        at = content.rindex(box) - 4
        content[at : at + 4] = struct.pack('>I', struct.unpack('>I', content[at : at + 4])[0] + 8)
    path.write_bytes(content)
    return path


def _index_first(content: bytes) -> bytes:
    """Move the index of an MP4 file of one track from behind the frames to before them."""
    start = content.index(b'moov') - 4
    index = bytearray(content[start:])
    at = index.index(b'stco') + 8
    for number in range(struct.unpack('>I', index[at : at + 4])[0]):
        place = at + 4 + 4 * number
        offset = struct.unpack('>I', index[place : place + 4])[0]
        index[place : place + 4] = struct.pack('>I', offset + len(index))
    head = struct.unpack('>I', content[:4])[0]
    return content[:head] + bytes(index) + content[head:start]
