"""The tables of compatibility: what the script makes of reports, and what the page shows."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from pages import DOCS, ROOT, tables

PAGE = DOCS / 'compatibility.md'
RESULTS = ROOT / 'benchmarks' / 'results' / 'compatibility.csv'
with open(RESULTS, newline='', encoding='utf-8') as stream:
    ROWS = list(csv.DictReader(stream))


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, which writes to a copy of the results."""
    spec = importlib.util.spec_from_file_location('compatibility', ROOT / 'benchmarks' / 'compatibility.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'RESULTS', tmp_path / 'compatibility.csv')
    return module


def name_of(row: dict[str, str]) -> str:
    words = [
        row['stack'],
        f'PyTorch {row["torch"].split("+")[0]}',
        'Python ' + row['python'].rsplit('.', 1)[0],
    ]
    return ', '.join(words + ['no operators'] * (row['operators'] == 'no'))


def test_every_number_of_the_page_is_measured() -> None:
    [(header, *lines)] = [table for table in tables(PAGE) if table[0][:2] == ['environment', 'core']]
    shown = {(line[0], task): cell for line in lines for task, cell in zip(header[1:], line[1:])}
    measured = {(name_of(row), row['task']): row for row in ROWS}
    assert len(measured) == len(ROWS), 'two environments have the same name'
    for key, cell in shown.items():
        if key not in measured:
            assert cell == 'not run'
            continue
        numbers = {word: number for number, word in (part.split() for part in cell.split(', '))}
        row = measured[key]
        assert numbers == {word: row[word] for word in ('passed', 'failed', 'skipped') if row[word] != '0'}
    assert set(measured) <= set(shown)


def test_every_version_of_the_page_is_that_of_a_run() -> None:
    [(header, *lines)] = [table for table in tables(PAGE) if table[0][:2] == ['environment', 'python']]
    for line in lines:
        shown = dict(zip(header, line))
        device, name = shown.pop('processor'), shown.pop('environment')
        rows = [row for row in ROWS if name_of(row) == name]
        assert rows and any(row['device'] == device for row in rows)
        assert all(shown == {key: row[key] for key in shown} for row in rows)
    assert {line[0] for line in lines} == {name_of(row) for row in ROWS}


def test_every_skipped_test_of_the_page_has_its_reason() -> None:
    [lines] = [table[1:] for table in tables(PAGE) if table[0] == ['environment', 'tests', 'reason']]
    shown: Counter[str] = Counter()
    for name, count, reason in lines:
        assert any(f'{reason}' in row['skip_reasons'] for row in ROWS if name_of(row) == name)
        shown[name] += int(count)
    measured: Counter[str] = Counter()
    for row in ROWS:
        measured[name_of(row)] += int(row['skipped'])
    assert +shown == +measured


def test_the_page_is_what_the_command_writes(script: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    text = PAGE.read_text(encoding='utf-8')
    page.write_text(text.replace(' passed', ' made up'), encoding='utf-8')
    script.write_page(page, ROWS)
    assert page.read_text(encoding='utf-8') == text.replace(' passed', ' passed')
    page.write_text('no comments', encoding='utf-8')
    with pytest.raises(ValueError, match='lacks the line <!-- table: versions -->'):
        script.write_page(page, ROWS)


def test_every_test_file_has_one_group(script: ModuleType) -> None:
    files = script.test_files()
    every = [file for group in files.values() for file in group]
    assert len(every) == len(set(every))
    assert set(every) == {path.relative_to(ROOT).as_posix() for path in (ROOT / 'tests').rglob('test_*.py')}
    assert all(files.values())
    assert 'tests/test_tools/test_export_tools.py' in files['export']
    assert 'tests/test_tools/test_demo.py' in files['tools']
    assert 'tests/test_models/test_resformer.py' in files['core']


CODE = """
import pytest

@pytest.mark.parametrize('number', range(4))
def test_numbers(number):
    if number == 1:
        pytest.skip('odd; and | ugly')
    assert number != 3

class TestGroup:
    def test_inside(self):
        pass

@pytest.fixture
def broken():
    raise ValueError

def test_error(broken):
    pass
"""
MODULES = {
    'test_models/test_a.py': CODE,
    'test_tasks/test_video/test_b.py': "import pytest\npytest.skip('not here', allow_module_level=True)",
    'test_tools/test_c.py': 'import missing_module',
}


@pytest.fixture
def project(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a few tests, some of which fail."""
    for name, code in MODULES.items():
        path = tmp_path / 'project' / 'tests' / name
        path.parent.mkdir(parents=True)
        path.write_text(code)
    (tmp_path / 'project' / 'pytest.ini').write_text('[pytest]\n')
    monkeypatch.setattr(script, 'ROOT', tmp_path / 'project')
    return tmp_path / 'project'


def test_rows_of_a_run(script: ModuleType, project: Path, tmp_path: Path) -> None:
    report = tmp_path / 'report.xml'
    tasks = ['core', 'video', 'tools']
    script.run_tests(tasks, report)
    script.update(script.make_rows(script.read_report(report, tasks), tasks))
    columns = ('task', 'passed', 'failed', 'skipped', 'skip_reasons')
    assert [tuple(row[column] for column in columns) for row in script.read_rows()] == [
        ('core', '3', '2', '1', '1 x odd, and, ugly'),
        ('video', '0', '0', '1', '1 x not here'),
        ('tools', '0', '1', '0', ''),
    ]
    again = [{**script.read_rows()[0], 'passed': '9'}, {**script.read_rows()[1], 'torch': '0.4.1'}]
    script.update(again)
    assert [(row['torch'] == '0.4.1', row['passed']) for row in script.read_rows()] == [
        (True, '0'),
        (False, '9'),
        (False, '0'),
        (False, '0'),
    ]


def test_a_report_that_is_not_of_all_tests_is_refused(
    script: ModuleType, project: Path, tmp_path: Path
) -> None:
    report = tmp_path / 'report.xml'
    script.run_tests(['video'], report)
    with pytest.raises(ValueError, match='has no test of tests.test_models.test_a: run all tests'):
        script.read_report(report, ['core', 'video'])
    (project / 'tests' / 'test_tasks' / 'test_video' / 'test_b.py').unlink()
    with pytest.raises(
        ValueError, match=r'tests\.test_tasks\.test_video\.test_b is not a test of this project'
    ):
        script.read_report(report, ['core'])


@pytest.mark.slow
def test_the_versions_are_those_of_the_interpreter() -> None:
    code = (
        'import sys; sys.path.insert(0, "benchmarks"); import compatibility as c, torch, mmcv, mmengine;'
        'e = c.describe_environment(); assert e["torch"] == torch.__version__, e;'
        'assert e["mmcv"] == mmcv.__version__ and e["mmengine"] == mmengine.__version__, e;'
        'assert e["python"] == sys.version.split()[0], e'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
