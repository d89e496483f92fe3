"""Every public module has its place in the API reference, every page in the navigation."""

from __future__ import annotations

import re

import pytest
import yaml
from pages import DOCS, PAGES, README, ROOT

SITE = (ROOT / 'mkdocs.yml').read_text(encoding='utf-8')
SETTINGS = yaml.safe_load(re.sub(r'!!python/name:\S+', 'function', SITE))
REFERENCES = [
    reference
    for page in sorted((DOCS / 'api').glob('*.md'))
    for reference in re.findall(r'^::: (\S+)$', page.read_text(encoding='utf-8'), re.MULTILINE)
]
# Packages of which the page shows the docstring alone.
FRAMES = {'resformer_mm', 'resformer_mm.tasks'}


def modules() -> list[str]:
    """Public modules of the package."""
    paths = [path.relative_to(ROOT).with_suffix('') for path in (ROOT / 'resformer_mm').rglob('*.py')]
    names = ['.'.join(path.parts).removesuffix('.__init__') for path in paths]
    return sorted(name for name in names if not re.search(r'\._', name))


def navigation(entry: object) -> list[str]:
    """Pages of an entry of the navigation."""
    if isinstance(entry, str):
        return [entry]
    entries = entry.values() if isinstance(entry, dict) else entry
    return [page for part in entries for page in navigation(part)]


def test_every_public_module_is_listed() -> None:
    [plugin] = [plugin['mkdocstrings'] for plugin in SETTINGS['plugins'] if 'mkdocstrings' in plugin]
    assert plugin['handlers']['python']['options']['show_submodules']  # a package brings its modules
    for module in set(modules()) - FRAMES:
        parts = module.split('.')
        packages = {'.'.join(parts[:length]) for length in range(1, len(parts) + 1)}
        assert packages & (set(REFERENCES) - FRAMES), module


def test_every_reference_is_a_module() -> None:
    assert set(REFERENCES) <= set(modules())
    assert len(set(REFERENCES)) == len(REFERENCES)


def test_every_page_is_in_the_navigation_once() -> None:
    pages = sorted(page.relative_to(DOCS).as_posix() for page in PAGES if page != README)
    assert sorted(navigation(SETTINGS['nav'])) == pages


def test_roles_of_docstrings_become_cross_references() -> None:
    griffe = pytest.importorskip('griffe')
    namespace: dict = {}
    code = (DOCS / 'api' / 'griffe_extension.py').read_text(encoding='utf-8')
    exec(compile(code, 'griffe_extension.py', 'exec'), namespace)
    docstring = (
        ':class:`~resformer_mm.models.ResFormer`, :func:`resformer_mm.text.table`, :class:`torch.Tensor`'
    )
    module = griffe.Module('example', docstring=griffe.Docstring(docstring))
    namespace['ApiReference']().on_instance(obj=module)
    assert module.docstring.value == (
        '[`ResFormer`][resformer_mm.models.ResFormer], '
        '[`resformer_mm.text.table`][resformer_mm.text.table], `torch.Tensor`'
    )
