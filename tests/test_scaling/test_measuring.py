"""Measurements of a small training on this machine, and the tool that prints them."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from runs import ROOT, data_roots, write_config, write_data

from resformer_mm.scaling import measuring

TOOL = ROOT / 'tools' / 'analysis_tools' / 'scaling.py'


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('scaling_tool', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in data_roots(write_data(tmp_path / 'data')).items():
        monkeypatch.setenv(name, value)
    return str(write_config(tmp_path / 'small.py'))


def test_the_tool_measures(tool: ModuleType, config: str) -> None:
    args = tool.parse_args([config, '--gpus', '2', '--measure-steps', '2', '--measure-loader', '3'])
    start = time.perf_counter()
    text = tool.report(args)
    seconds = time.perf_counter() - start
    first = text.splitlines()[0].replace(',', '')
    words = first.split()
    speed, milliseconds = float(words[words.index('images/s') - 1]), float(words[words.index('ms') - 1])
    assert first.count('measured here') == 2 and '3 resolutions' in first
    # A batch of eight takes less than the whole command, as do three images.
    assert speed > 8 / seconds and 0 < milliseconds < 1000 * seconds / 3


def test_given_numbers_are_not_measured(tool: ModuleType, config: str) -> None:
    args = tool.parse_args([config, '--images-per-second', '100', '--loader-ms', '10'])
    assert '100.0 images/s per GPU (as given), 10.0 ms of a core per image (as given)' in tool.report(args)


@pytest.mark.parametrize('option', ['--measure-steps', '--measure-loader'])
def test_nothing_cannot_be_measured(tool: ModuleType, capsys: pytest.CaptureFixture, option: str) -> None:
    other = ['--loader-ms', '1'] if option == '--measure-steps' else ['--images-per-second', '1']
    with pytest.raises(SystemExit):
        tool.parse_args(['config.py', option, '0', *other])
    assert f'{option} must be at least 1' in capsys.readouterr().err


class Clock:
    """A clock that the fake data set and model set forward."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_loading_is_timed_without_the_first_images(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = Clock(), []

    class SlowData:
        def __len__(self) -> int:
            return 100

        def __getitem__(self, index: int) -> int:
            seen.append(index)
            clock.now += 0.010 if len(seen) > 4 else 1.0
            return index

    monkeypatch.setattr(DATASETS, 'build', lambda settings: SlowData())
    monkeypatch.setattr(measuring.time, 'process_time', clock)
    cfg = Config(dict(train_dataloader=dict(dataset=dict())))
    assert measuring.measure_loader(cfg, 5) == pytest.approx(10)
    assert seen[4:] == [0, 20, 40, 60, 80]  # spread over the data set


def test_steps_end_when_the_device_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waited = Clock(), []

    class SlowModel:
        def to(self, device: str) -> SlowModel:
            assert device == 'xpu'
            return self

        def train(self) -> SlowModel:
            return self

        def train_step(self, batch: dict, wrapper: object) -> None:
            clock.now += 0.001  # the call returns before the work is done

    def wait(device: str) -> None:
        waited.append(device)
        clock.now += 0.499 if len(waited) > 2 else 9.0

    batch = dict(inputs=[], data_samples=[None] * 4)
    monkeypatch.setattr(measuring, 'get_device', lambda: 'xpu')
    monkeypatch.setattr(measuring, 'synchronize', wait)
    monkeypatch.setattr(measuring.Runner, 'build_dataloader', lambda *args, **kwargs: [batch])
    monkeypatch.setattr(measuring, 'build_optim_wrapper', lambda *args: None)
    monkeypatch.setattr(MODELS, 'build', lambda settings: SlowModel())
    monkeypatch.setattr(measuring.time, 'perf_counter', clock)
    cfg = Config(dict(train_dataloader=dict(dataset=dict()), model=dict(), optim_wrapper=dict()))
    assert measuring.measure_training(cfg, 3) == pytest.approx(4 / 0.5)
    assert waited == ['xpu'] * 5
