"""Listed messages of dependencies do not reach the users of tools; everything else does."""

from __future__ import annotations

import builtins
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.fileio import FileClient
from mmengine.logging import MMLogger, logger, print_log

from resformer_mm.compat import quiet
from resformer_mm.compat.messages import LOGGED, PRINTED, WARNED, Message

ROOT = Path(__file__).parents[2]
TOOLS = [*sorted((ROOT / 'tools').rglob('*.py')), ROOT / 'resformer_mm' / 'collect_env.py']
MODULE = 'mmengine.some.module'
# What the dependencies say, in the order of the list, and something similar that users need.
WARNINGS = [
    ('pkg_resources is deprecated as an API. See https://setuptools.pypa.io', 'pkg_resources is missing'),
    (
        'Fail to import ``MultiScaleDeformableAttention`` from ``mmcv.ops.multi_scale_deform_attn``, You',
        'Fail to import ``RoIAlign`` from ``mmcv.ops``',
    ),
    (
        'faster_coco_eval is not installed, metrics will not be computed. Please install it by: mim',
        'pycocotools is not installed, metrics will not be computed',
    ),
    (
        'Default ``avg_non_ignore`` is False, if you would like to ignore the certain label and average',
        '``ignore_index`` is not among the labels',
    ),
    ('The draw is False, it means that the hook for visualization will not', 'The show is True, images'),
    ('`broadcast_buffers` is deprecated. Use `forward_sync_buffers` instead.', '`device_ids` is wrong'),
    (
        'FSDP.state_dict_type() and FSDP.set_state_dict_type() are being deprecated. Please use APIs',
        'FSDP.state_dict_type() was not found',
    ),
    (
        'Setting MKL_NUM_THREADS environment variable for each process to be 1 in default, to avoid',
        'Setting OMP_NUM_THREADS environment variable for each process to be 1 in default, to avoid',
    ),
    ('torch.meshgrid: in an upcoming release, it will be required to pass', 'torch.meshgrid: sizes differ'),
    (
        '`torch.cuda.amp.GradScaler(args...)` is deprecated. Please use `torch.amp.GradScaler',
        'torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling.',
    ),
    ('The shape of value will convert from torch.Size([65, 84]) to', 'The shape of value is wrong'),
    ('Truncated File Read', 'image file is truncated'),
    ("Only use 'alpha' for pillow backend.", 'Pillow backend only support uint8 type'),
]
RECORDS = [
    ('The prefix is not set in metric class IoUMetric.', 'The prefix of IoUMetric is used twice'),
    ('"FileClient" will be deprecated in future. Please use io', '"FileClient" cannot read a.jpg'),
    ('"HardDiskBackend" is the alias of "LocalBackend" and', '"PetrelBackend" is not installed'),
    (
        'Failed to search registry with scope "mmpretrain" in the "strategy" registry tree. As a workaround',
        'Failed to search registry with scope "mmpretrain" in the "model" registry tree. As a workaround',
    ),
    (
        'Resumed iteration number is not divisible by `_accumulative_counts` in',
        'Gradient accumulative may slightly influence',
    ),
    ('Line NMS is not compiled. Most likely when', 'NMS is not compiled'),
    ('Please make sure that the mlflow server is running.', 'Could not log metrics to mlflow'),
]
PRINTS = [
    ('Could not import OneDL. Skipping OneDL datasets.', 'Could not import decord'),
    ('Loads checkpoint by local backend from path: a.pth', 'Loads checkpoint a.pth without its optimizer'),
]


def pairs(messages: tuple[Message, ...], texts: list[tuple[str, str]]) -> list:
    assert len(messages) == len(texts)
    return [
        pytest.param(message, *pair, id=pair[0].partition('.')[0])
        for message, pair in zip(messages, texts, strict=True)
    ]


@contextmanager
def tool(monkeypatch: pytest.MonkeyPatch, options: list[str]) -> Iterator[None]:
    """Behave as a process that a tool has started."""
    with monkeypatch.context() as patch, warnings.catch_warnings():
        patch.setenv(quiet.VARIABLE, 'filtered')
        patch.setattr(sys, 'warnoptions', options)
        patch.setattr(MMLogger, 'filter', MMLogger.filter)
        patch.setattr(logger, 'print', builtins.print, raising=False)
        warnings.simplefilter('always')
        assert quiet.quieten()
        yield


@pytest.fixture
def as_tool(monkeypatch) -> Iterator[None]:
    with tool(monkeypatch, []):
        yield


def issued(message: Message, text: str) -> list[str]:
    """Texts that get through, of a warning that the source of a message issues."""
    where = message.source if message.module else MODULE
    with warnings.catch_warnings(record=True) as caught:
        # record=True replaces how warnings are shown, and leaves the filters.
        warnings.warn_explicit(text, message.category, 'file.py', 1, where)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(('message', 'text', 'neighbour'), pairs(WARNED, WARNINGS))
def test_warnings(message: Message, text: str, neighbour: str, as_tool) -> None:
    assert issued(message, text) == []
    assert issued(message, neighbour) == [neighbour]
    another = Message(message.text, MODULE, '', '', RuntimeWarning, message.module)
    assert issued(another, text) == [text]


@pytest.mark.parametrize(('message', 'text', 'neighbour'), pairs(LOGGED, RECORDS))
def test_records_of_loggers(message: Message, text: str, neighbour: str, as_tool, capsys) -> None:
    log = MMLogger('records of a test')
    log.warning(text)
    log.warning(neighbour)
    log.warning(f'{neighbour}: {text}')  # in the middle, it is part of another message
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition('WARNING')[2][-len(neighbour) :] for line in lines[:1]] == [neighbour]
    assert len(lines) == 2 and lines[1].endswith(text)


@pytest.mark.parametrize(('message', 'text', 'neighbour'), pairs(PRINTED, PRINTS))
def test_prints_of_print_log(message: Message, text: str, neighbour: str, as_tool, capsys) -> None:
    print_log(text)
    print_log(neighbour)
    print(text)
    assert capsys.readouterr().out.splitlines() == [neighbour, text]


class Metric(BaseMetric):
    """Without a prefix."""

    def process(self, data_batch, data_samples):
        """Take nothing."""

    def compute_metrics(self, results):
        """Return nothing."""


def say_everything() -> None:
    torch.meshgrid(torch.zeros(2), torch.zeros(2))  # which PyTorch says once per process
    Metric()
    FileClient('disk')


def test_what_dependencies_say_is_what_is_listed(as_tool, monkeypatch, capsys) -> None:
    monkeypatch.setattr(MMLogger, '_instance_dict', {})
    monkeypatch.setattr(FileClient, '_instances', {})
    with warnings.catch_warnings(record=True) as caught:
        say_everything()
    assert not capsys.readouterr().out and not caught
    monkeypatch.setattr(quiet, 'LOGGED', ())
    monkeypatch.setattr(FileClient, '_instances', {})
    say_everything()
    said = capsys.readouterr().out
    assert 'The prefix is not set' in said and '"FileClient" will' in said


def test_filters_given_to_python_are_left_alone(monkeypatch) -> None:
    with tool(monkeypatch, ['error']):
        assert issued(WARNED[0], WARNINGS[0][0]) == [WARNINGS[0][0]]


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.stem)
def test_tools(path: Path, monkeypatch) -> None:
    monkeypatch.delenv(quiet.VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, '__main__', types.SimpleNamespace(__file__=str(path)))
    assert quiet.runs_a_tool()


@pytest.mark.parametrize('path', ['tools/train.py', 'configs/a.py', None])
def test_other_programs(path: str | None, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(quiet.VARIABLE, raising=False)
    main = types.SimpleNamespace(**({} if path is None else {'__file__': str(tmp_path / path)}))
    monkeypatch.setitem(sys.modules, '__main__', main)
    filters, method = list(warnings.filters), MMLogger.filter
    assert not quiet.quieten()
    assert warnings.filters == filters and MMLogger.filter is method and 'print' not in vars(logger)


def test_everything_can_be_shown(monkeypatch) -> None:
    monkeypatch.setenv(quiet.VARIABLE, 'all')
    monkeypatch.setitem(sys.modules, '__main__', types.SimpleNamespace(__file__=str(TOOLS[0])))
    filters = list(warnings.filters)
    assert not quiet.quieten() and not quiet.is_quiet() and warnings.filters == filters
