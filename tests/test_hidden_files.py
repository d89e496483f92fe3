"""Files and folders that are not data."""

import pytest

from resformer_mm.hidden_files import is_hidden


@pytest.mark.parametrize(
    'path',
    [
        '.ipynb_checkpoints',
        'cat/.ipynb_checkpoints/a.jpg',
        '__MACOSX/cat/._a.jpg',
        '__macosx',
        'cat\\.x\\a.jpg',
        '@eaDir/a.jpg',
        'cat/Thumbs.db',
        'THUMBS.DB',
        'cat/._a.jpg',
        '.DS_Store',
        '$RECYCLE.BIN',
        'lost+found/a',
        'System Volume Information',
        'cat/..a.jpg',
        'Icon\r',
    ],
)
def test_hidden(path: str) -> None:
    assert is_hidden(path)


@pytest.mark.parametrize(
    'path',
    [
        'cat/a.jpg',
        './cat/a.jpg',
        '../cat/a.jpg',
        '.',
        '..',
        'a.b/c.d.jpg',
        'my__MACOSX',
        'eaDir',
        'Thumbs.db.jpg',
        '',
    ],
)
def test_not_hidden(path: str) -> None:
    assert not is_hidden(path)
