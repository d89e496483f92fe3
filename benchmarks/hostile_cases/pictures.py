"""Hostile images."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from resformer_mm.datasets.loading import LoadImage

from .case import HARMLESS, TRACE, Case, written


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a part of a PNG file."""
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def png(
    width: int, height: int, chunks: Iterable[bytes] = (), pixels: bytes | None = None, bits: int = 8
) -> bytes:
    """Return a grey PNG file; without pixels, a black one."""
    if pixels is None:
        pixels = zlib.compress(bytes(height * (1 + width * bits // 8)))
    header = struct.pack('>IIBBBBB', width, height, bits, 0, 0, 0, 0)
    parts = [chunk(b'IHDR', header), *chunks, chunk(b'IDAT', pixels), chunk(b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


def directory(entries: Iterable[tuple[int, int, int, int]], after: bytes = b'') -> bytes:
    """Return a TIFF file, or EXIF data, with these tags: number, type, count, value or place."""
    entries = list(entries)
    table = b''.join(struct.pack('<HHII', *entry) for entry in entries)
    return b'II*\0' + struct.pack('<IH', 8, len(entries)) + table + bytes(4) + after


def tiff(width: int, height: int, bits: int = 8, kind: int = 1, **others: int) -> bytes:
    """Return a TIFF file whose pixels are compressed to almost nothing."""
    pixels = zlib.compress(bytes(1000))
    tags = {256: width, 257: height, 258: bits, 259: 8, 262: 1, 277: 1, 339: kind}
    tags |= {int(name[1:]): value for name, value in others.items()}
    place = 8 + 2 + 12 * (len(tags) + 2) + 4
    offset, length = (324, 325) if 322 in tags else (273, 279)
    tags |= {offset: place, length: len(pixels)}
    return directory(((tag, 4, 1, tags[tag]) for tag in sorted(tags)), pixels)


def overlapping_tags(number: int, size: int) -> bytes:
    """Return tags that all refer to the same data."""
    place = 8 + 2 + 12 * number + 4
    return directory(((tag, 7, size, place) for tag in range(number)), bytes(size))


def jpeg(width: int, height: int) -> bytes:
    """Return a small JPEG file whose header has another size."""
    buffer = io.BytesIO()
    Image.new('RGB', (8, 8)).save(buffer, 'JPEG')
    content = buffer.getvalue()
    place = content.index(b'\xff\xc0') + 5
    return content[:place] + struct.pack('>HH', height, width) + content[place + 4 :]


def gif(side: int, number: int) -> bytes:
    """Return a GIF file whose frames are larger than its screen."""
    frame = b',' + struct.pack('<HHHHB', 0, 0, side, side, 0) + b'\2\2\x44\1\0'
    return b'GIF89a' + struct.pack('<HHBBB', 1, 1, 0x80, 0, 0) + bytes(6) + frame * number + b';'


def ico() -> bytes:
    """Return an ICO file of 1 x 1 pixels that contains a large image."""
    content = png(32000, 32000, bits=1, pixels=zlib.compress(bytes(1000)))
    return struct.pack('<HHHBBBBHHII', 0, 1, 1, 1, 1, 0, 0, 1, 32, len(content), 22) + content


def postscript(folder: Path) -> bytes:
    """Return a program in PostScript that would write a file."""
    return (
        f'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({folder / TRACE}) (w) file closefile\n'.encode()
    )


def load(path: Path) -> str:
    """Load an image as training does."""
    return 'x'.join(map(str, LoadImage().transform(dict(img_path=str(path)))['img'].shape))


def picture(name: str, content: bytes, attack: str = 'fills the memory', *outcome: str) -> Case:
    """Return the case of an image file."""
    return Case('image', name, attack, written(name.split(' ')[0], content), load, *outcome)


_LIMIT = 'more than the limit of 1073741824'
_TEXT = zlib.compress(bytes(2**21))
CASES = (
    picture(
        'size.png (65535 x 65535, no data)',
        png(65535, 65535, pixels=b'x'),
        'fills the memory',
        'refused',
        _LIMIT,
    ),
    picture(
        'hollow.png (30000 x 30000, no data)',
        png(30000, 30000, pixels=b'x'),
        'fills the memory',
        'refused',
        'cannot hold',
    ),
    picture(
        'largest.png (2^31 - 1 squared)',
        png(2**31 - 1, 2**31 - 1, pixels=b'x'),
        'fills the memory',
        'refused',
        _LIMIT,
    ),
    picture('text.png (compressed text)', png(8, 8, [chunk(b'zTXt', b'a\0\0' + _TEXT)])),
    picture(
        'texts.png (many texts)', png(8, 8, [chunk(b'zTXt', b'a\0\0' + zlib.compress(bytes(2**20)))] * 70)
    ),
    picture('profile.png (compressed profile)', png(8, 8, [chunk(b'iCCP', b'a\0\0' + _TEXT)])),
    picture(
        'exif.png (tags of the same data)',
        png(8, 8, [chunk(b'eXIf', overlapping_tags(5000, 2**18))]),
        'fills the memory',
        HARMLESS,
    ),
    picture('truncated.png', png(64, 64)[:-40], 'is read in part'),
    picture('size.jpg (65535 x 65535)', jpeg(65535, 65535), 'fills the memory', 'refused', _LIMIT),
    picture('hollow.jpg (30000 x 30000)', jpeg(30000, 30000), 'fills the memory', 'refused', 'cannot hold'),
    picture('screen.gif (frame of 65535 x 65535)', gif(65535, 1), 'fills the memory', 'refused', _LIMIT),
    picture('frames.gif (10^5 frames)', gif(1, 10**5), 'fills the memory', HARMLESS),
    picture('size.tif (65535 x 65535)', tiff(65535, 65535), 'fills the memory', 'refused', _LIMIT),
    picture('tile.tif (tile of 65536 x 65520)', tiff(8, 8, _322=65536, _323=65520)),
    picture('strip.tif (strip of 2^31 rows)', tiff(8, 8, _278=2**31)),
    picture(
        'float.tif (float64, 10^10 pixels)', tiff(10**5, 10**5, 64, 3), 'fills the memory', 'refused', _LIMIT
    ),
    picture('tags.tif (count 2^32 - 1)', directory([(256, 4, 1, 8), (257, 4, 1, 8), (273, 4, 2**32 - 1, 8)])),
    picture(
        'size.bmp (2^31 - 1 squared)',
        b'BM' + struct.pack('<IHHIIiiHHII', 99, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0) + bytes(66),
        'fills the memory',
        'refused',
        _LIMIT,
    ),
    picture(
        'size.ppm (65535 x 65535)', b'P6 65535 65535 255\n' + bytes(99), 'fills the memory', 'refused', _LIMIT
    ),
    picture('icon.png (ICO with a larger image)', ico(), 'fills the memory', 'refused', 'Unidentified'),
    Case(
        'image',
        'postscript.png (EPS)',
        'runs code',
        written('postscript.png', postscript),
        load,
        'refused',
        'Unidentified',
    ),
    picture(
        'drawing.png (SVG)',
        b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        'runs code in a browser',
    ),
)
