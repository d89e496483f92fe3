"""The pages of the documentation and their parts, shared by the tests of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / 'README.md'
DOCS = ROOT / 'docs'
PAGES = [README, *sorted(DOCS.rglob('*.md'))]
FENCE = re.compile(r'^( *)```(\w*)\n(.*?)^\1```', re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    """Path of a file relative to the project, which names it in test reports."""
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """Code blocks of a page in a language, in order, without their indentation."""
    found = FENCE.findall(page.read_text(encoding='utf-8'))
    return [re.sub(f'^{indent}', '', code, flags=re.M) for indent, kind, code in found if kind == language]


def prose(page: Path) -> str:
    """Text of a page without its code blocks."""
    return FENCE.sub('', page.read_text(encoding='utf-8'))


def tables(page: Path) -> list[list[list[str]]]:
    """Tables of a page: rows of cells, the header first, without the line below it."""
    found = re.findall(r'(?:^\|.*\|\n)+', prose(page) + '\n', re.MULTILINE)
    split = [[line[1:-1].split('|') for line in table.splitlines()] for table in found]
    return [
        [[cell.strip() for cell in row] for row in table if not set(''.join(row)) <= set('-: ')]
        for table in split
    ]
