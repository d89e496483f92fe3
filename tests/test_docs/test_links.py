"""What the documentation refers to exists: pages, headings, files, modules and config types."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from pages import DOCS, PAGES, ROOT, blocks, name, prose

from resformer_mm import registry
from resformer_mm.registry import AdapterRegistry

LINK = re.compile(r'!?\[[^\]]*\]\(([^)\s]+)\)')
PATH = re.compile(r'(?<![\w/.-])((?:configs|tools|tests|benchmarks|examples|requirements)/[\w./{},*-]+)')
REFERENCE = re.compile(r'(?<![\w.])resformer_mm((?:\.\w+)+)')
REGISTRIES = [
    table for key in registry.__all__ if isinstance(table := getattr(registry, key), AdapterRegistry)
]
SOURCES = [
    path
    for folder in ('resformer_mm', 'configs', 'tools', 'tests', 'benchmarks', 'examples')
    for path in sorted((ROOT / folder).rglob('*'))
    if path.suffix in ('.py', '.sh', '.yml', '.html')
]


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub and MkDocs make them."""
    headings = re.findall(r'^#+ (.*)$', prose(page), re.MULTILINE)
    plain = [re.sub(r'[^\w\s-]', '', heading).strip().lower() for heading in headings]
    return {re.sub(r'\s+', '-', heading) for heading in plain}


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_every_link_has_its_target(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if target.startswith(('http://', 'https://')):
            continue
        path, _, anchor = target.partition('#')
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), target
        assert not anchor or anchor in anchors(file), f'{target}: not in {sorted(anchors(file))}'


def test_every_page_and_picture_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / 'README.md']
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            targets = LINK.findall(prose(page)) if page.suffix == '.md' else []
            files = ((page.parent / target.partition('#')[0]).resolve() for target in targets)
            waiting += [file for file in files if file.is_file()]
    pages = {page for page in PAGES if page.parent.name != 'api'}
    assert pages | set((DOCS / 'images').iterdir()) <= reached


def expand(pattern: str) -> list[str]:
    """Expand the braces of a path: 'a-{b,c}' becomes 'a-b' and 'a-c'."""
    match = re.search(r'\{([^{}]*)\}', pattern)
    if match is None:
        return [pattern]
    start, end = match.span()
    return [path for word in match[1].split(',') for path in expand(pattern[:start] + word + pattern[end:])]


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_every_path_of_the_project_exists(page: Path) -> None:
    for found in PATH.findall(page.read_text(encoding='utf-8')):
        for path in expand(found.rstrip('.,')):
            if '...' not in path and not path.endswith('{'):
                assert list(ROOT.glob(path.rstrip('/'))), found


def test_sources_refer_to_pages_that_exist() -> None:
    missing = [
        (name(path), page)
        for path in SOURCES
        for page in re.findall(r'(?<![\w/])docs/[\w/]+\.md', path.read_text(encoding='utf-8'))
        if not (ROOT / page).is_file()
    ]
    assert not missing


def defined_names(file: Path) -> set[str]:
    """Names that a module defines, imports or makes available on demand."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return names


def is_known(reference: str) -> bool:
    """Whether ``resformer_mm`` with these attributes is a module, a name in one, or a type in a config."""
    words = reference.strip('.').split('.')
    if len(words) == 1 and any(words[0] in table.adapters or table.get(words[0]) for table in REGISTRIES):
        return True
    path = ROOT / 'resformer_mm'
    while words and (path / words[0]).is_dir():
        path /= words.pop(0)
    if words and (path / f'{words[0]}.py').is_file():
        path /= f'{words.pop(0)}.py'
    return not words or set(words) <= defined_names(path if path.suffix else path / '__init__.py')


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_every_module_and_config_type_exists(page: Path) -> None:
    for reference in REFERENCE.findall(page.read_text(encoding='utf-8')):
        assert is_known(reference), f'resformer_mm{reference}'


def test_references_to_nothing_are_found() -> None:
    assert is_known('.ResFormer') and is_known('.engine.objective.MultiResolutionObjective')
    assert is_known('.MaskRCNN') and is_known('.models')
    assert not is_known('.TurnByTurnClassifier') and not is_known('.engine.resolution_chain')
    assert not is_known('.engine.objective.ResolutionChain') and not is_known('.nothing')


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_python_of_every_page_is_valid(page: Path) -> None:
    for code in blocks(page, 'python'):
        if re.match(r'\w+ ?= ?dict\(', code):
            assert Config.fromstring(code, '.py')
        else:
            ast.parse(code)


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_prose_is_not_wrapped_beyond_120_columns(page: Path) -> None:
    assert not [line for line in prose(page).splitlines() if len(line) > 120 and not line.startswith('|')]
