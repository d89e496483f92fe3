"""Names of the splits of a data set."""

from __future__ import annotations

SPLITS = {
    **dict.fromkeys(('train', 'training', 'trainset'), 'train'),
    **dict.fromkeys(('val', 'valid', 'validation', 'valset'), 'val'),
    **dict.fromkeys(('test', 'testing', 'testset'), 'test'),
}


def split_name(name: str) -> str:
    """Return 'train', 'val' or 'test' for the usual names of splits, also with a year; others unchanged."""
    return SPLITS.get(name.lower().rstrip('0123456789'), name)


def split_of(path: str) -> str:
    """Return 'train', 'val' or 'test' if a folder of a path is called like one; '' otherwise."""
    names = [split_name(part) for part in path.split('/')[:-1]]
    return next((name for name in names if name in ('train', 'val', 'test')), '')
