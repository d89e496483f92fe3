"""What an evaluation at several resolutions changes while it runs, and afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from mmengine.evaluator import DumpResults, Evaluator
from mmengine.hooks import IterTimerHook, LoggerHook
from mmengine.logging import MessageHub

from resformer_mm.engine.loops import MultiResolutionEvaluation


class Recorder(DumpResults):
    """A metric that returns what it collected."""

    def __init__(self) -> None:
        super().__init__('out.pkl')
        self.prefix = None
        self.seen: dict[str, list] = {'numbers': []}

    def process(self, data_batch: int, data_samples: list) -> None:
        self.results.append(data_batch)
        self.seen['numbers'].append(data_batch)

    def compute_metrics(self, results: list) -> dict:
        return {'results': results, 'seen': list(self.seen['numbers']), 'file': self.out_file_path}


class Loop(MultiResolutionEvaluation):
    """A loop whose step does what a test wants, on three batches per resolution: 480, 481, 482."""

    def __init__(self, step, resolutions: Sequence[int] = (48,), per_pass: int = 1) -> None:
        self.step = step
        self.metric = Recorder()
        self.hook, self.logger = ClipVisualizationHook('drawn'), LoggerHook(interval=7)
        self.evaluator = Evaluator([self.metric])
        self.runner = SimpleNamespace(hooks=[self.hook, self.logger])
        self.loaders = {resolution: Loader(resolution) for resolution in resolutions}
        self.shared_loaders = {}
        self.resolutions, self.resolutions_per_pass = list(resolutions), per_pass
        self._share = Shared

    def run_iter(self, index: int, batch: int) -> None:
        self.step(self)
        self.evaluator.process([], batch)


class ClipVisualizationHook:
    """A hook that writes to a folder, as those of mmpretrain and mmaction2 do."""

    def __init__(self, out_dir: str) -> None:
        self.out_dir = out_dir


class Loader:
    dataset = 'abc'

    def __init__(self, resolution: int) -> None:
        self.batches = [10 * resolution + number for number in range(3)]

    def __iter__(self):
        yield from self.batches

    def __len__(self) -> int:
        return 3


class Shared:
    """Batches of every resolution, first two of each, then the last."""

    def __init__(self, loaders: dict) -> None:
        self.loaders = loaders

    def __iter__(self):
        for part in (slice(0, 2), slice(2, 3)):
            yield [loader.batches[part] for loader in self.loaders.values()]


def test_results_of_a_resolution_go_to_a_place_of_their_own() -> None:
    seen = []
    loop = Loop(lambda loop: seen.append((loop.metric.out_file_path, loop.hook.out_dir)))
    [(resolution, metrics)] = loop.evaluate_at([48])
    assert resolution == 48 and metrics['file'] == 'out_48.pkl'
    assert seen == [('out_48.pkl', 'drawn/48')] * 3
    assert (loop.metric.out_file_path, loop.hook.out_dir) == ('out.pkl', 'drawn')


@pytest.mark.parametrize('per_pass', [1, 2, 3])
def test_resolutions_of_a_pass_are_kept_apart(per_pass: int) -> None:
    seen = []

    def step(loop: Loop) -> None:
        (resolution,) = (r for r, loader in loop.loaders.items() if loader is loop.dataloader)
        seen.append((resolution, loop.hook.out_dir, loop.logger.interval))

    loop = Loop(step, (32, 48, 64), per_pass)
    for resolution, metrics in loop.evaluate_at([32, 48, 64]):
        numbers = [10 * resolution + number for number in range(3)]
        assert metrics['results'] == numbers and metrics['file'] == f'out_{resolution}.pkl'
        assert metrics['seen'][-3:] == numbers
        assert loop.evaluator.metrics[0].out_file_path == metrics['file']
    assert sorted(entry[:2] for entry in seen) == [(r, f'drawn/{r}') for r in (32, 48, 64) for _ in range(3)]
    # The log has the lines of one resolution of a pass.
    lines = {1: [32, 48, 64], 2: [48, 64], 3: [64]}[per_pass]
    assert {resolution for resolution, _, interval in seen if interval} == set(lines)
    assert loop.evaluator.metrics == [loop.metric]
    assert (loop.metric.out_file_path, loop.hook.out_dir, loop.logger.interval) == ('out.pkl', 'drawn', 7)


@pytest.mark.parametrize('resolutions', [(48,), (48, 32)])
def test_places_are_restored_after_an_error(resolutions: tuple[int, ...]) -> None:
    def fail(loop: Loop) -> None:
        raise ZeroDivisionError

    loop = Loop(fail, resolutions, len(resolutions))
    with pytest.raises(ZeroDivisionError):
        list(loop.evaluate_at(resolutions))
    assert loop.evaluator.metrics == [loop.metric]
    assert (loop.metric.out_file_path, loop.hook.out_dir, loop.logger.interval) == ('out.pkl', 'drawn', 7)


@pytest.mark.parametrize('resolutions', [(48,), (48, 32)])
def test_the_time_left_is_that_of_the_pass(resolutions: tuple[int, ...]) -> None:
    timer = IterTimerHook()
    timer.t, timer.time_sec_test_val = 0.0, 1000.0  # of an earlier pass, hours ago
    hub = MessageHub.get_instance('time_left')
    left = []

    def step(loop: Loop) -> None:
        runner = SimpleNamespace(message_hub=hub, test_dataloader=loop.dataloader)
        done = counts[loop.dataloader]
        counts[loop.dataloader] += 1
        timer._before_iter(runner, done, mode='test')
        timer.t -= 10.0  # as long as a step takes
        timer._after_iter(runner, done, mode='test')
        left.append(hub.get_info('eta'))

    loop = Loop(step, resolutions, len(resolutions))
    counts = dict.fromkeys(loop.loaders.values(), 0)
    loop.runner.hooks.append(timer)
    list(loop.evaluate_at(resolutions))
    assert hub.get_scalar('test/data_time').current() < 5
    assert max(left) == pytest.approx(20 * len(resolutions), abs=21) and left[-1] == 0


@pytest.mark.parametrize('field', ['outfile_prefix', 'tmp_dir', 'output_dir'])
def test_metrics_that_write_files_for_each_sample_take_one_resolution_at_a_time(field: str) -> None:
    loop = Loop(lambda loop: None, (32, 48))
    assert loop._possible_per_pass(2) == 2
    setattr(loop.metric, field, 'somewhere')
    assert loop._possible_per_pass(2) == 1


def test_data_sets_that_cannot_be_shared_take_one_resolution_at_a_time() -> None:
    loop = Loop(lambda loop: None, (32, 48))
    loop._share = lambda loaders: None
    assert loop._possible_per_pass(2) == 1
    assert [resolution for resolution, _ in loop.evaluate_at([32, 48])] == [32, 48]
