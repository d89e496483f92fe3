"""Progress on a terminal, which is emulated here, and in pipes and files."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resformer_mm import progress
from resformer_mm.progress import ProgressDisplay, track

SCRIPT = """
import logging, sys, warnings
from mmengine.logging import MMLogger, print_log
from resformer_mm.progress import track

MMLogger.get_instance('run')
for number in track(range(40), 'Pictures [a] {b}'):
    if number == 10:
        print('printed')
        print_log('logged', 'current', logging.WARNING)
    if number == 20:
        warnings.warn('warned')
        print('on stderr', file=sys.stderr)
print('end')
"""


def screen(output: str) -> list[str]:
    """Return the lines that a terminal shows after it received the output."""
    lines, row, column = [''], 0, 0
    for part in re.findall(r'\x1b\[[?\d;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+', output):
        if part == '\r':
            column = 0
        elif part == '\n':
            row += 1
            lines += [''] * (row + 1 - len(lines))
        elif part == '\x1b[2K':
            lines[row] = ''
        elif part.endswith('A') and part.startswith('\x1b'):
            row -= int(part[2:-1])
        elif not part.startswith('\x1b'):
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return lines


def run(stdout_is_terminal: bool, **variables: str) -> tuple[str, str]:
    """Run the script with a terminal as its standard error; return what arrives there, and in the pipe."""
    own, other = pty.openpty()
    environment = {**os.environ, 'TERM': 'xterm', 'COLUMNS': '100', **variables}
    process = subprocess.Popen(
        [sys.executable, '-c', SCRIPT],
        stdout=other if stdout_is_terminal else subprocess.PIPE,
        stderr=other,
        env=environment,
        text=True,
    )
    os.close(other)
    received = b''
    while True:
        try:
            data = os.read(own, 2**16)
        except OSError:  # what Linux says at the end
            break
        if not data:
            break
        received += data
    os.close(own)
    piped = process.stdout.read() if process.stdout else ''
    assert process.wait(timeout=60) == 0, received
    return received.decode(), piped


@pytest.mark.slow
def test_a_terminal_shows_one_bar_below_what_is_printed():
    received, _ = run(stdout_is_terminal=True)
    lines = [line.rstrip() for line in screen(received)]
    [bar] = [line for line in lines if '40/40' in line]
    assert bar.startswith('Pictures [a] {b} ') and re.search(r' 40/40 \S+/s 0:00:\d\d$', bar)
    place = lines.index(bar)
    assert [line for line in lines[:place] if line in ('printed', 'on stderr')] == ['printed', 'on stderr']
    assert any(line.endswith('logged') for line in lines[:place])
    assert any(line.endswith('UserWarning: warned') for line in lines[:place])
    assert lines[place + 1] == 'end'
    assert received.count('\x1b[?25l') == received.count('\x1b[?25h')  # the cursor is shown again


@pytest.mark.slow
def test_a_pipe_of_stdout_gets_all_that_is_printed_and_nothing_else():
    received, piped = run(stdout_is_terminal=False)
    assert [line for line in piped.splitlines() if 'logged' not in line] == ['printed', 'end']
    assert '40/40' in received and 'printed' not in received


@pytest.mark.slow
def test_a_terminal_that_cannot_move_the_cursor_gets_no_control_characters():
    received, _ = run(stdout_is_terminal=True, TERM='dumb')
    assert 'warned' in received and '40/40' not in received and '\x1b[2K' not in received


@pytest.mark.slow
def test_a_log_of_a_short_command_gets_nothing():
    # Variables of CI systems, which make rich take anything for a terminal.
    environment = {**os.environ, 'FORCE_COLOR': '1', 'TTY_COMPATIBLE': '1'}
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', SCRIPT], capture_output=True, text=True, env=environment
    )
    assert (result.returncode, result.stderr) == (0, 'on stderr\n')


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, 'time', clock)
    return clock


def test_a_log_gets_a_line_every_half_minute_with_the_time_left(clock, capsys):
    for _ in track(range(20), 'Images'):
        clock.now += 10
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == 'Images: 3/20, 10 s each, 0:02:50 left'
    assert lines[1] == 'Images: 6/20, 10 s each, 0:02:20 left'
    assert lines[-1] == 'Images: 20/20, 10 s each, 0:03:20 in all'
    assert len(lines) == 7


def test_an_unknown_number_has_no_time_left(clock, capsys):
    for _ in track(iter(range(500)), 'Frames'):
        clock.now += 0.125
    assert capsys.readouterr().err.splitlines() == ['Frames: 240, 8/s', 'Frames: 480, 8/s']


def test_the_time_before_the_number_is_known_does_not_count(clock, capsys):
    with ProgressDisplay() as display:
        task = display.add('Batches')
        clock.now += 1000  # a model is loaded
        display.set_total(task, 100)
        for _ in range(50):
            clock.now += 1
            display.advance(task)
    [line] = capsys.readouterr().err.splitlines()
    assert line == 'Batches: 30/100, 1/s, 0:01:10 left'


def test_names_cannot_steer_the_terminal(clock, capsys):
    for _ in track(range(1), '\x1b[2Jdata'):
        clock.now += 60
    assert '\x1b' not in capsys.readouterr().err


def test_other_processes_and_quiet_callers_show_nothing(clock, capsys, monkeypatch):
    for _ in track(range(3), 'Images', shown=False):
        clock.now += 60
    monkeypatch.setattr(progress, 'is_main_process', lambda: False)
    for _ in track(range(3), 'Images'):
        clock.now += 60
    assert capsys.readouterr().err == ''


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_streams_and_loggers_are_as_before_after_an_error(monkeypatch):
    stdout, stderr = Terminal(), Terminal()
    monkeypatch.setattr(sys, 'stdout', stdout)
    monkeypatch.setattr(sys, 'stderr', stderr)
    monkeypatch.setenv('TERM', 'xterm')
    logger = logging.getLogger('resformer_mm_test_progress')
    monkeypatch.setattr(logger, 'handlers', [logging.StreamHandler(stdout)])
    items = track(range(3), 'Images')
    with pytest.raises(RuntimeError), ProgressDisplay():
        assert logger.handlers[0].stream is sys.stdout is not stdout
        logger.addHandler(logging.StreamHandler(sys.stderr))
        raise RuntimeError
    assert [handler.stream for handler in logger.handlers] == [stdout, stderr]
    assert (sys.stdout, sys.stderr) == (stdout, stderr)
    next(items)
    items.close()
    assert (sys.stdout, sys.stderr) == (stdout, stderr) and stderr.getvalue().endswith('\x1b[?25h')


def test_tools_have_one_way_to_show_progress():
    root = Path(progress.__file__).parents[1]
    files = [
        path for folder in ('resformer_mm', 'tools', 'benchmarks') for path in (root / folder).rglob('*.py')
    ]
    others = re.compile(
        r'^\s*(from|import) (rich\.progress|tqdm)|\bProgressBar\b|\btrack_\w*progress\b', re.M
    )
    found = {path.name for path in files if others.search(path.read_text(encoding='utf-8'))}
    assert found == {'progress.py'}
