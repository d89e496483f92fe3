"""Files that people take for checkpoints, recognised by their first bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path

_START = 512  # bytes
_ARCHIVES = {b'\x1f\x8b': 'gzip', b'7z\xbc\xaf': '7z', b'Rar!': 'rar', b'\xfd7zXZ': 'xz', b'BZh': 'bzip2'}


def other_file(source: str | Path) -> str | None:
    """Return what a file is that is not a checkpoint, with the remedy; None if nothing is recognised."""
    path = Path(source)
    if not path.is_file():
        return None
    with path.open('rb') as file:
        start = file.read(_START).lstrip(b'\xef\xbb\xbf \r\n\t')
    if not start:
        return 'is empty: download or copy it again, and see whether the disk is full'
    if start.startswith(b'version https://git-lfs'):
        return (
            'is a pointer of Git LFS, not the file itself: run `git lfs pull` in its repository, or download '
            'the file from there'
        )
    if start[:1] == b'<':
        return (
            'is a web page, not a checkpoint: open the address in a browser, log in if it asks for that, and '
            'download the file that the page links to'
        )
    if start[:1] == b'{':
        return 'is a text in JSON, such as an index of several files: give the file with the weights'
    if start.startswith(b'\x89HDF'):
        return 'is a file of Keras or TensorFlow (HDF5): use the PyTorch weights of the same model'
    for magic, name in _ARCHIVES.items():
        if start.startswith(magic):
            return f'is compressed ({name}): unpack it first'
    return _zip_kind(path)


def _zip_kind(path: Path) -> str | None:
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        names = [entry.filename for entry in archive.infolist()]
    if names and all(name.endswith('.npy') for name in names):
        return 'holds NumPy arrays, as the weights of JAX: use the PyTorch weights of the same model'
    inside = [name for name in names if name.endswith(('.pth', '.pt', '.bin', '.safetensors'))]
    return f'is an archive with {inside[0]} inside: unpack it first' if inside else None
