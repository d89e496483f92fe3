"""Table of the versions on which the tests pass: one row per environment and group of tests.

    python benchmarks/compatibility.py                               # run all tests here, update the CSV
    python benchmarks/compatibility.py --tasks core export           # some groups alone
    python benchmarks/compatibility.py --junit report.xml            # take the results of a run of all tests
    python benchmarks/compatibility.py --page docs/compatibility.md  # write the tables of the page

An environment is the interpreter that runs this script: its Python, PyTorch and OpenMMLab libraries. Its rows
replace earlier ones of the same versions in benchmarks/results/compatibility.csv; other rows stay. A report
for --junit must come from the same environment and from all tests: ``pytest -m '' --junit-xml report.xml``,
or ``bash tools/run_tests.sh --junit-xml report.xml``.
"""

from __future__ import annotations

import argparse
import ast
import csv
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import torch

from resformer_mm.analysis.machine import describe_device
from resformer_mm.files import write_csv
from resformer_mm.operators import has_operators

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks' / 'results' / 'compatibility.csv'
# Paths below tests/. The first group that has a path or one of its folders counts; what none has is core.
TASKS = {
    'core': (),
    'classification': ('test_tasks/test_classification',),
    'segmentation': ('test_tasks/test_segmentation', 'test_tasks/test_new_task'),
    'detection': ('test_tasks/test_detection',),
    'video': ('test_tasks/test_video',),
    'export': ('test_deployment', 'test_tools/test_export_tools.py'),
    'tools': ('test_analysis', 'test_apis', 'test_benchmarks', 'test_cascade', 'test_examples',
              'test_inference', 'test_sweep', 'test_synthetic', 'test_tools', 'test_web'),
    'documents': ('test_docs', 'test_model_index.py', 'test_packaging.py'),
}  # fmt: skip
# Column -> names under which the package may be installed.
PACKAGES = {
    'torchvision': ('torchvision',),
    'numpy': ('numpy',),
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmaction2': ('mmaction2',),
}
ENVIRONMENT = ('stack', 'python', 'torch', *PACKAGES, 'operators')
OLD_TABLE = re.compile(r'\A\n*(?:\|.*\|\n)*')
# Problems that end a run of pytest before its report is complete, by exit code.
INCOMPLETE = {2: 'it was interrupted', 3: 'internal error', 4: 'usage error'}

Row = dict[str, str]


def describe_environment() -> Row:
    """Return the versions of this interpreter and its libraries, and the stack they belong to."""
    found = {column: installed(names) for column, names in PACKAGES.items()}
    return {
        'stack': 'forks' if installed(('onedl-mmengine',)) else 'upstream',
        'python': platform.python_version(),
        'torch': torch.__version__,
        **found,
        'operators': 'yes' if has_operators() else 'no',
    }


def installed(names: Iterable[str]) -> str:
    """Return the version of the first of some distributions that is installed, or ''."""
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ''


def task_of(path: str) -> str:
    """Return the group of a test file, given its path below tests/."""
    places = {str(place) for place in (PurePosixPath(path), *PurePosixPath(path).parents)}
    order = sorted(TASKS, key=lambda task: task == 'tools')  # a file of test_tools may have another group
    return next((task for task in order if places.intersection(TASKS[task])), 'core')


def test_files() -> dict[str, list[str]]:
    """Return the test files of every group, relative to the project."""
    files: dict[str, list[str]] = {task: [] for task in TASKS}
    for file in sorted((ROOT / 'tests').rglob('test_*.py')):
        files[task_of(file.relative_to(ROOT / 'tests').as_posix())].append(file.relative_to(ROOT).as_posix())
    return files


def run_tests(tasks: Sequence[str], report: Path) -> None:
    """Run the tests of some groups with all tiers, and write a JUnit report.

    Raises:
        SystemExit: pytest did not run all tests.
    """
    files = test_files()
    command = [sys.executable, '-m', 'pytest', '-m', '', '-q', '--continue-on-collection-errors']
    command += [f'--junit-xml={report}', *(file for task in tasks for file in files[task])]
    environment = {'OMP_WAIT_POLICY': 'PASSIVE', **os.environ}
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if status not in (0, 1, 5):  # 5: every file was skipped
        reason = INCOMPLETE.get(status, f'exit code {status}')
        sys.exit(f'error: pytest did not finish ({reason}): nothing was written')


def read_report(report: Path, tasks: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return outcome ('passed', 'failed' or 'skipped') and reason of every test of a JUnit file, by group.

    Raises:
        ValueError: the file has a test that is not in this project, or lacks a file of the groups.
    """
    modules = {
        file.removesuffix('.py').replace('/', '.'): task
        for task, files in test_files().items()
        for file in files
    }
    outcomes: dict[str, list[tuple[str, str]]] = {}
    seen = set()
    for case in ElementTree.parse(report).iter('testcase'):
        # The name of a class follows that of the module; of a module that was not imported, it is the name.
        name = case.get('classname') or case.get('name', '')
        module = next((name[:end] for end in ends(name) if name[:end] in modules), None)
        if module is None:
            raise ValueError(f'{report}: {name} is not a test of this project')
        seen.add(module)
        outcomes.setdefault(modules[module], []).append(outcome(case))
    missing = [module for module, task in modules.items() if task in tasks and module not in seen]
    if missing:
        raise ValueError(f'{report} has no test of {", ".join(missing)}: run all tests, of all tiers')
    return outcomes


def ends(name: str) -> list[int]:
    """Return the lengths of a dotted name and of the names of its parents, longest first."""
    return [len(name), *(match.start() for match in reversed(list(re.finditer(r'\.', name))))]


def outcome(case: ElementTree.Element) -> tuple[str, str]:
    """Return the outcome of a test, and the reason if it was skipped."""
    if case.find('failure') is not None or case.find('error') is not None:
        return 'failed', ''
    skipped = case.find('skipped')
    if skipped is None:
        return 'passed', ''
    reason = skipped.get('message', '')
    if reason == 'collection skipped':  # a whole file: (path, line, reason)
        reason = ast.literal_eval(skipped.text)[2]
    reason = re.sub(r'^Skipped: ', '', reason).strip()
    return 'skipped', re.sub(r'\s*[;|\n]\s*', ', ', reason)  # these separate reasons and cells


def make_rows(outcomes: dict[str, list[tuple[str, str]]], tasks: Sequence[str]) -> list[Row]:
    """Return a row of this environment for each group."""
    environment, device = describe_environment(), describe_device('cpu')
    rows = []
    for task in tasks:
        counts = Counter(result for result, _ in outcomes[task])
        reasons = Counter(reason for result, reason in outcomes[task] if result == 'skipped')
        numbers = {result: str(counts[result]) for result in ('passed', 'failed', 'skipped')}
        summary = '; '.join(f'{count} x {reason}' for reason, count in reasons.most_common())
        rows.append({**environment, 'task': task, **numbers, 'skip_reasons': summary, 'device': device})
    return rows


def read_rows() -> list[Row]:
    """Return the rows of the CSV; none if there is no file."""
    if not RESULTS.is_file():
        return []
    with open(RESULTS, newline='', encoding='utf-8') as stream:
        return list(csv.DictReader(stream))


def update(rows: list[Row]) -> None:
    """Write rows to the CSV in the place of earlier ones of the same environment and group."""

    def key(row: Row) -> tuple[str, ...]:
        return tuple(row[column] for column in (*ENVIRONMENT, 'task'))

    merged = {key(row): row for row in [*read_rows(), *rows]}
    write_csv(RESULTS, sorted(merged.values(), key=lambda row: (_order(row), list(TASKS).index(row['task']))))


def _order(row: Row) -> list:
    """Sort key of an environment: by stack and version of PyTorch."""
    numbers = [int(number) for number in re.findall(r'\d+', row['torch'].partition('+')[0])]
    return [row['stack'] != 'upstream', numbers, [row[column] for column in ENVIRONMENT]]


def environment_name(row: Row) -> str:
    """Return what an environment is called on the page."""
    python = row['python'].rpartition('.')[0]
    operators = '' if row['operators'] == 'yes' else ', no operators'
    return f'{row["stack"]}, PyTorch {row["torch"].partition("+")[0]}, Python {python}{operators}'


def make_tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page in Markdown, by the names in its comments."""
    environments: dict[str, dict[str, Row]] = {}
    for row in rows:
        environments.setdefault(environment_name(row), {})[row['task']] = row
    columns = [column for column in ENVIRONMENT if column != 'stack']
    versions = [['environment', *columns, 'processor']]
    results = [['environment', *TASKS]]
    skips = [['environment', 'tests', 'reason']]
    for name, tasks in environments.items():
        first = next(iter(tasks.values()))
        versions.append([name, *(first[column] for column in columns), first['device']])
        results.append([name, *(cell(tasks.get(task)) for task in TASKS)])
        reasons: Counter[str] = Counter()
        for row in tasks.values():
            for item in filter(None, row['skip_reasons'].split('; ')):
                count, _, reason = item.partition(' x ')
                reasons[reason] += int(count)
        skips += [[name, str(count), reason] for reason, count in reasons.most_common()]
    return {'versions': markdown(versions), 'results': markdown(results), 'skips': markdown(skips)}


def cell(row: Row | None) -> str:
    """Return the numbers of a group of tests as one cell."""
    if row is None:
        return 'not run'
    texts = [f'{row[key]} {key}' for key in ('passed', 'failed', 'skipped') if row[key] != '0']
    return ', '.join(texts)


def markdown(rows: list[list[str]]) -> str:
    """Return a table in Markdown, the first row as its header."""
    header, *body = (f'| {" | ".join(row)} |' for row in rows)
    return '\n'.join([header, '|' + '---|' * len(rows[0]), *body])


def write_page(page: Path, rows: list[Row]) -> None:
    """Replace the tables that follow the comments ``<!-- table: NAME -->`` of a page.

    Raises:
        ValueError: the page lacks a comment.
    """
    text = page.read_text(encoding='utf-8')
    for name, table in make_tables(rows).items():
        comment = f'<!-- table: {name} -->\n'
        before, found, after = text.partition(comment)
        if not found:
            raise ValueError(f'{page} lacks the line {comment.strip()}')
        text = f'{before}{comment}\n{table}\n{re.sub(OLD_TABLE, "", after, count=1)}'
    page.write_text(text, encoding='utf-8')


def main() -> None:
    """Run the tests, read a report, or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--tasks', nargs='+', choices=list(TASKS), default=list(TASKS), help='groups of tests'
    )
    parser.add_argument('--junit', type=Path, help='JUnit file of a run of all tests in this environment')
    parser.add_argument('--page', type=Path, help='write the tables of this page; nothing is run')
    args = parser.parse_args()
    try:
        if args.page is not None:
            write_page(args.page, read_rows())
            return
        if args.junit is not None:
            outcomes = read_report(args.junit, args.tasks)
        else:
            with tempfile.TemporaryDirectory() as folder:
                report = Path(folder) / 'report.xml'
                run_tests(args.tasks, report)
                outcomes = read_report(report, args.tasks)
        rows = make_rows(outcomes, args.tasks)
    except (OSError, ValueError, ElementTree.ParseError) as error:
        parser.error(str(error))
    update(rows)
    for row in rows:
        print(f'{row["task"]:15} {cell(row)}')


if __name__ == '__main__':
    main()
