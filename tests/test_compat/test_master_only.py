"""Visualizers draw in every process; what they log still comes from the first alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmengine.visualization import LocalVisBackend, Visualizer

from resformer_mm.compat.master_only import draw_in_every_process

LOGGED = ('add_config', 'add_graph', 'add_scalar', 'add_scalars')
PICTURE = np.full((20, 20, 3), 255, dtype=np.uint8)


@pytest.fixture(autouse=True)
def second_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None: 1)


def visualizer(folder: Path) -> Visualizer:
    return Visualizer(vis_backends=[dict(type='LocalVisBackend', save_dir=str(folder))])


def test_the_workaround_is_needed(tmp_path: Path) -> None:
    drawn = visualizer(tmp_path)
    assert drawn.set_image(PICTURE) is None and drawn.get_image() is None


def test_every_process_draws(tmp_path: Path) -> None:
    drawn = visualizer(tmp_path)
    draw_in_every_process(drawn)
    drawn.set_image(PICTURE)
    drawn.draw_bboxes(np.array([[2, 2, 12, 12]]), edge_colors='r')
    assert drawn.get_image().shape == PICTURE.shape
    assert not np.array_equal(drawn.get_image(), PICTURE)
    assert isinstance(drawn, Visualizer) and isinstance(
        drawn._vis_backends['LocalVisBackend'], LocalVisBackend
    )


@pytest.mark.parametrize(('restricted', 'expected'), [(LOGGED, []), ((), ['loss'])])
def test_what_is_logged_comes_from_the_first(
    tmp_path: Path, restricted: tuple[str, ...], expected: list[str]
) -> None:
    drawn, seen = visualizer(tmp_path), []
    drawn._vis_backends['LocalVisBackend'].add_scalar = lambda name, *_, **__: seen.append(name)
    draw_in_every_process(drawn, restricted)
    drawn.add_scalar('loss', 1.0)
    assert seen == expected


def test_other_visualizers_keep_the_restriction(tmp_path: Path) -> None:
    one, other = visualizer(tmp_path), visualizer(tmp_path)
    draw_in_every_process(one)
    other.set_image(PICTURE)
    assert other.get_image() is None and type(other) is Visualizer


def test_nothing_changes_where_nothing_is_restricted(tmp_path: Path) -> None:
    drawn = visualizer(tmp_path)
    draw_in_every_process(drawn)
    kind = type(drawn)
    draw_in_every_process(drawn)
    assert type(drawn) is kind
