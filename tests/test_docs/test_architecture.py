"""The package imports as the table of the architecture says: from the bottom up, without circles."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from pages import DOCS, ROOT, tables

PACKAGE = ROOT / 'resformer_mm'
FILES = sorted(path for path in PACKAGE.rglob('*.py') if path != PACKAGE / '__init__.py')


def order() -> list[str]:
    """Packages and modules of the table, from the bottom up."""
    [table] = [rows for rows in tables(DOCS / 'architecture.md') if rows[0][0].startswith('package')]
    names = [name for row in table[1:] for name in re.findall('`([^`]+)`', row[0])]
    return [name.removesuffix('.py').partition('/')[0] for name in names]


def packages(path: Path) -> set[str]:
    """Packages of resformer_mm that a module or one of its functions imports, by their first name."""
    found = set()
    here = ('resformer_mm', *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else ()
            module = '.'.join([*base, *filter(None, [node.module])])
            modules = [f'{module}.{alias.name}' for alias in node.names]
        found.update(name.split('.')[1] for name in modules if name.startswith('resformer_mm.'))
    return found


def test_the_table_has_every_package() -> None:
    entries = {path.stem for path in PACKAGE.glob('*.py')}
    entries |= {path.parent.name for path in PACKAGE.glob('*/*.py')}
    assert set(order()) == entries - {'__init__'}


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_what_is_above_it(path: Path) -> None:
    names = order()
    own = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    allowed = names[: names.index(own) + 1]
    assert packages(path) <= set(allowed)


def test_tasks_do_not_import_each_other() -> None:
    for path in (PACKAGE / 'tasks').rglob('*.py'):
        code = path.read_text(encoding='utf-8')
        others = set(re.findall(r'resformer_mm\.tasks\.(\w+)', code)) - {path.parent.name}
        assert others <= ({'classification'} if path.parent.name == 'video' else set()), path
