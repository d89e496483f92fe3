"""Configs given as data, and names with characters that a terminal or a browser obeys."""

from __future__ import annotations

import json
from pathlib import Path

from resformer_mm.config.files import read_config
from resformer_mm.control_characters import printable, printable_name
from resformer_mm.datasets.checks.report import CheckReport, Finding
from resformer_mm.text import shorten_list

from .case import HARMLESS, TRACE, Case, written


def yaml_object(folder: Path) -> bytes:
    """Return a config in YAML that would make a file when it is read."""
    return f'model: !!python/object/apply:os.system ["touch {folder / TRACE}"]\n'.encode()


def read(path: Path) -> str:
    """Read a config."""
    return str(read_config(path).model)


def name(folder: Path) -> str:
    """Return a file name with a line break, escape sequences and bytes that are not text."""
    return 'a\nsound\n\x1b]0;title\x07\x9b2J\u202egnp.exe\udcff' + 'x' * 10**6


def tell(name: str) -> str:
    """Return what a check says about such a file."""
    report = CheckReport([Finding(name, 'unreadable image', name)]).text()
    texts = report, shorten_list([name]), printable_name(name), printable(name)
    assert not any(letter in text for text in texts for letter in '\x1b\x07\x9b\u202e\udcff')
    ''.join(texts).encode()
    assert len(shorten_list([name])) < 1000 and 'sound' not in report.splitlines()
    return printable_name(name)


CASES = (
    Case(
        'config',
        'x.yaml with an object',
        'runs code',
        written('x.yaml', yaml_object),
        read,
        'refused',
        'constructor',
    ),
    Case(
        'config',
        'x.yaml with a tuple',
        'none: MMEngine writes it',
        written('x.yaml', b'model: {size: !!python/tuple [1, 2]}'),
        read,
        HARMLESS,
    ),
    Case(
        'config',
        'x.json, nested',
        'crashes the process',
        written('x.json', b'{"model": ' + b'[' * 10**5 + b']' * 10**5 + b'}'),
        read,
        'refused',
        'not a valid config',
    ),
    Case(
        'config',
        'x.json with a key twice',
        'hides a setting',
        written('x.json', json.dumps({'model': {'a': 1}}).replace('1', '1, "a": 2').encode()),
        read,
        HARMLESS,
    ),
    Case('name', 'line break, ESC, 10^6 letters', 'steers the terminal', name, tell, HARMLESS),
)
