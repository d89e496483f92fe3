"""What a test that was interrupted has finished."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from torch import nn

from resformer_mm.engine.finished import FinishedResolutions
from resformer_mm.engine.loops import MultiResolutionTestLoop


def test_metrics_are_kept_for_the_same_weights_and_settings(tmp_path) -> None:
    path = tmp_path / 'finished.json'
    finished = FinishedResolutions(path, 'abc')
    assert finished.find(48, []) is None
    finished.add(48, {'top1': 0.1 + 0.2, 'nan': math.nan}, [])
    FinishedResolutions(path, 'other').add(48, {'top1': 5}, [])
    found = FinishedResolutions(path, 'abc').find(48, [])
    assert found['top1'] == 0.1 + 0.2 and math.isnan(found['nan'])
    assert finished.find(32, []) is None
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))


def test_files_that_were_not_written_are_not_finished(tmp_path) -> None:
    finished = FinishedResolutions(tmp_path / 'finished.json', 'abc')
    predictions = tmp_path / 'out_48.pkl'
    finished.add(48, {}, [])
    assert finished.find(48, [str(predictions)]) is None
    finished.add(48, {}, [str(predictions)])
    assert finished.find(48, [str(predictions)]) is None
    predictions.touch()
    assert finished.find(48, [str(predictions)]) == {} == finished.find(48, [])


@pytest.mark.parametrize('text', ['{', '[1]'])
def test_a_damaged_file_is_deleted_as_its_message_says(tmp_path, text) -> None:
    path = tmp_path / 'finished.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=r'finished.json is damaged .*: delete it'):
        FinishedResolutions(path, 'abc').find(48, [])
    path.unlink()
    assert FinishedResolutions(path, 'abc').find(48, []) is None


@pytest.mark.parametrize('value', [math.inf, [1, 2], 'text'])
def test_metrics_that_json_does_not_hold_are_measured_again(tmp_path, value) -> None:
    finished = FinishedResolutions(tmp_path / 'finished.json', 'abc')
    finished.add(48, {'value': value}, [])
    assert finished.find(48, []) is None


class Loop(MultiResolutionTestLoop):
    """A loop that evaluates nothing, up to an interruption."""

    def __init__(self, work_dir, resume: bool, interrupted_at: int | None = None) -> None:
        model = nn.Linear(1, 1)
        model.weight.data.fill_(2)
        model.bias.data.zero_()
        self._runner = SimpleNamespace(
            model=model, cfg=Config(), work_dir=str(work_dir), hooks=[], call_hook=lambda *_, **__: None
        )
        self.evaluator = SimpleNamespace(metrics=[])
        self.resolutions, self.fp16 = [32, 48, 64], False
        self.resume, self._finished = resume, None
        self.interrupted_at, self.evaluated = interrupted_at, []

    def evaluate_at(self, resolutions: Sequence[int]) -> Iterator[tuple[int, dict[str, float]]]:
        for resolution in resolutions:
            if resolution == self.interrupted_at:
                raise KeyboardInterrupt
            self.evaluated.append(resolution)
            yield resolution, {'top1': float(resolution)}


def test_a_test_goes_on_where_it_was_interrupted(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Loop(tmp_path, resume=False, interrupted_at=64).run()
    loop = Loop(tmp_path, resume=True)
    assert loop.run() == {'32/top1': 32, '48/top1': 48, '64/top1': 64, 'mean/top1': 48}
    assert loop.evaluated == [64]
    for change in (dict(resume=False), dict(weight=3), dict(fp16=True)):
        loop = Loop(tmp_path, resume=change.get('resume', True))
        loop.runner.model.weight.data.fill_(change.get('weight', 2))
        loop.fp16 = change.get('fp16', False)
        loop.run()
        assert loop.evaluated == [32, 48, 64]
