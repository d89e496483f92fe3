from __future__ import annotations

import itertools
import json
import random

import pytest
import torch

from resformer_mm.fingerprint import fingerprint
from resformer_mm.sweep import Point, SweepError, SweepRecord, SweptModel, pareto_front
from resformer_mm.sweep.record import unique_names

CONDITIONS = {'device': 'abacus', 'threads': 1}


def record(**model) -> SweepRecord:
    settings = dict(name='a', config='a.py', checkpoint='a.pth', fingerprint='1')
    points = {32: Point({'top1': 50.0}, 1e9, 2**20, [[0.1, 0.3], [0.2]]), 64: Point()}
    return SweepRecord(dict(CONDITIONS), [SweptModel(**{**settings, 'points': points, **model})])


def test_a_record_survives_the_disk(tmp_path) -> None:
    before = record(trained_on=[32], parameters=7, samples=10)
    before.save(tmp_path / 'new' / 'sweep.json')
    assert SweepRecord.load(tmp_path / 'new' / 'sweep.json') == before
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['sweep.json']


def test_what_was_measured_is_taken_over(tmp_path) -> None:
    path = tmp_path / 'sweep.json'
    earlier = record()
    earlier.models += record(name='b').models
    earlier.save(path)
    now = record(points={}, parameters=3)
    now.resume_from(path)
    assert [model.name for model in now.models] == ['a', 'b']
    assert now.models[0].points == earlier.models[0].points
    assert now.models[0].parameters == 3
    fresh = record(points={})
    fresh.resume_from(tmp_path / 'absent.json')
    assert fresh.models[0].points == {}


def test_what_cannot_be_compared_is_refused(tmp_path) -> None:
    path = tmp_path / 'sweep.json'
    record().save(path)
    with pytest.raises(SweepError, match="another 'a'.*choose|another 'a'.*Choose"):
        record(fingerprint='2').resume_from(path)
    other = record()
    other.conditions['device'] = 'brain'
    with pytest.raises(SweepError, match="device: 'abacus' then, 'brain' now"):
        other.resume_from(path)


@pytest.mark.parametrize('content', ['', '{', '[]', '{"version": 1}', '{"version": 1, "models": [{}]}'])
def test_damaged_records(tmp_path, content: str) -> None:
    (tmp_path / 'sweep.json').write_text(content)
    with pytest.raises(SweepError, match=r'sweep\.json is not the record'):
        SweepRecord.load(tmp_path / 'sweep.json')
    (tmp_path / 'sweep.json').write_text(json.dumps({'version': 99}))
    with pytest.raises(SweepError, match='version 99'):
        SweepRecord.load(tmp_path / 'sweep.json')


def test_latency_is_over_the_calls_of_all_rounds() -> None:
    point = Point(
        latency=[[0.001 * value for value in range(1, 6)], [0.001 * value for value in range(6, 12)]]
    )
    assert point.latency_ms() == pytest.approx(6.0)
    assert [point.latency_ms(0.1), point.latency_ms(0.9)] == pytest.approx([2.0, 10.0])


def test_metrics_that_a_model_lacks_are_not_compared() -> None:
    both = record()
    both.models += record(name='b', points={32: Point({'top5': 1.0, 'top1': 2.0})}).models
    assert both.metric_names() == ['top1']


def test_the_fingerprint_depends_on_config_and_weights() -> None:
    state = {'scale': torch.tensor(1.0), 'weight': torch.eye(2)}
    first = fingerprint('model = 1', state)
    assert fingerprint('model = 1', state) == first != fingerprint('model = 2', state)
    others = [
        {**state, 'scale': torch.tensor(2.0)},
        {**state, 'weight': torch.eye(2).reshape(4)},
        {**state, 'weight': torch.eye(2).view(torch.int32)},
        {'scale': state['scale'], 'Weight': state['weight']},
    ]
    assert len({first, *(fingerprint('model = 1', other) for other in others)}) == 5


def test_names_are_told_apart() -> None:
    assert unique_names(['a', 'b', 'a', 'a']) == ['a', 'b', 'a (2)', 'a (3)']


def test_the_front_is_what_no_point_beats() -> None:
    generator = random.Random(0)
    for _ in range(50):
        points = [(generator.randint(0, 6), generator.randint(0, 6)) for _ in range(8)]
        front = [points[index] for index in pareto_front(*zip(*points))]
        beaten = {a for a, b in itertools.permutations(points, 2) if b[0] <= a[0] and b[1] >= a[1] and a != b}
        assert front == sorted(set(points) - beaten)
        costs, values = zip(*points)
        opposite = [-value for value in values]
        assert pareto_front(costs, values, lower_is_better=True) == pareto_front(costs, opposite)
    assert pareto_front([], []) == []
