"""Label Studio's code of brush masks: runs of the bytes of an RGBA picture, of which the opacity counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .geometry import runs_of

_CHANNELS = 4
_LONGEST = 2**16
# Bits of a byte less one, and those of the four lengths less one; the last one, 16 bits, is written always.
_HEAD = f'{7:05b}' + ''.join(f'{bits - 1:04b}' for bits in (3, 4, 8, 16))


def decode_brush(code: Sequence[int], height: int, width: int) -> np.ndarray:
    """Return the pixels ``(H, W)`` uint8, 1 where the brush was.

    The code has 32 bits with the number of values, 5 with the length of a value less one, and four times 4
    with lengths of lengths less one. A block follows another: a bit that says whether one value is repeated,
    2 bits that choose the length of the number, the number of values less one, and the value or the values.

    Args:
        code: bytes.
        height: height of the image.
        width: width of the image.

    Raises:
        ValueError: the code is damaged, or that of an image of another size.
    """
    if not all(isinstance(byte, int) and 0 <= byte < 256 for byte in code):
        raise ValueError('its rle is not a list of bytes')
    bits = ''.join(f'{byte:08b}' for byte in code)
    position = 0

    def take(number: int) -> int:
        nonlocal position
        position += number
        if position > len(bits):
            raise ValueError('its rle is cut off')
        return int(bits[position - number : position], 2)

    count = take(32)
    if count != _CHANNELS * height * width:
        raise ValueError(f'its rle has {count} values, not those of {height} x {width} pixels')
    size = take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint8)
    start = 0
    while start < count:
        is_run = take(1)
        end = min(count, start + 1 + take(lengths[take(2)]))
        if is_run:
            values[start:end] = take(size) & 255
        else:
            for place in range(start, end):
                values[place] = take(size) & 255
        start = end
    return (values.reshape(height, width, _CHANNELS)[..., -1] > 0).astype(np.uint8)


def encode_brush(pixels: np.ndarray) -> list[int]:
    """Return the code of a mask ``(H, W)``."""
    blocks = [f'{_CHANNELS * pixels.size:032b}{_HEAD}']
    value = 0
    for run in runs_of((pixels > 0).astype(np.uint8)):
        rest = _CHANNELS * run
        while rest:
            number = min(rest, _LONGEST)
            blocks.append(f'111{number - 1:016b}{255 * value:08b}')
            rest -= number
        value = 1 - value
    bits = ''.join(blocks)
    bits += '0' * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8, 'big'))
