"""What an evaluation at one of several resolutions changes while it runs, and afterwards."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mmengine.evaluator import DumpResults
from mmengine.hooks import IterTimerHook
from mmengine.logging import MessageHub

from resformer_mm.engine.loops import MultiResolutionEvaluation


class Loop(MultiResolutionEvaluation):
    """A loop of one batch, whose step does what a test wants."""

    def __init__(self, step) -> None:
        self.step = step
        self.metric = DumpResults(out_file_path='out.pkl')
        self.hook = ClipVisualizationHook('drawn')
        self.evaluator = SimpleNamespace(metrics=[self.metric], evaluate=lambda size: {'size': size})
        self.runner = SimpleNamespace(hooks=[self.hook])
        self.loaders = {48: Loader()}

    def run_iter(self, index: int, batch: dict) -> None:
        self.step(self)


class ClipVisualizationHook:
    """A hook that writes to a folder, as those of mmpretrain and mmaction2 do."""

    def __init__(self, out_dir: str) -> None:
        self.out_dir = out_dir


class Loader:
    dataset = 'abc'

    def __iter__(self):
        yield {}


def test_results_of_a_resolution_go_to_a_place_of_their_own() -> None:
    seen = []
    loop = Loop(lambda loop: seen.append((loop.metric.out_file_path, loop.hook.out_dir)))
    assert loop.evaluate_at(48) == {'size': 3}
    assert seen == [('out_48.pkl', 'drawn/48')]
    assert (loop.metric.out_file_path, loop.hook.out_dir) == ('out.pkl', 'drawn')


def test_places_are_restored_after_an_error() -> None:
    def fail(loop: Loop) -> None:
        raise ZeroDivisionError

    loop = Loop(fail)
    with pytest.raises(ZeroDivisionError):
        loop.evaluate_at(48)
    assert (loop.metric.out_file_path, loop.hook.out_dir) == ('out.pkl', 'drawn')


def test_the_time_left_is_that_of_the_resolution() -> None:
    timer = IterTimerHook()
    timer.t, timer.time_sec_test_val = 0.0, 1000.0  # of an earlier resolution, hours ago
    hub = MessageHub.get_instance('time_left')
    runner = SimpleNamespace(message_hub=hub, test_dataloader=range(3), hooks=[timer])

    def step(loop: Loop) -> None:
        timer._before_iter(runner, 0, mode='test')
        timer._after_iter(runner, 0, mode='test')

    loop = Loop(step)
    loop.runner.hooks.append(timer)
    loop.evaluate_at(48)
    assert hub.get_info('eta') < 60
    assert hub.get_scalar('test/data_time').current() < 60
