"""Label maps from colour pictures."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resformer_mm.tasks.segmentation.colouring import colour_masks
from resformer_mm.tasks.segmentation.colours import (
    UNKNOWN_COLOURS,
    Legend,
    LegendError,
    convert_masks,
    read_legend,
)

TOOL = Path(__file__).parents[3] / 'tools' / 'dataset_converters' / 'masks_from_colours.py'
COLOURS = {'sky': (128, 128, 128), 'tall tree': (0, 128, 0), 'void': (0, 0, 0)}
EXPECTED = Legend(('sky', 'tall tree'), {(128, 128, 128): 0, (0, 128, 0): 1, (0, 0, 0): 255})


def rows(line: str) -> str:
    return ''.join(line.format(*colour, name, *colour) + '\n' for name, colour in COLOURS.items())


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('a.json', json.dumps(COLOURS)),
        ('a.json', json.dumps([dict(name=name, color=colour) for name, colour in COLOURS.items()])),
        ('a.json', json.dumps({name: '#{:02x}{:02X}{:02x}'.format(*rgb) for name, rgb in COLOURS.items()})),
        ('a.csv', '\ufeffname,r,g,b\n' + rows('{3},{0},{1},{2}')),
        ('a.csv', 'R, G, B, Class\r\n' + rows('{0}, {1}, {2}, {3}')),
        ('a.CSV', rows('{3},{0},{1},{2}')),
        ('a.txt', rows('{0} {1} {2} {3}') + '\n'),
        ('a.txt', '// CamVid\n' + rows('{0} {1} {2}\t\t{3}')),
        ('a.txt', rows('#{0:02x}{1:02x}{2:02x} {3}')),
        ('labelmap.txt', '# label:color_rgb:parts:actions\n' + rows('{3}:{0},{1},{2}::')),
    ],
)
def test_legends(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding='utf-8')
    assert read_legend(tmp_path / name, ignored=['void']) == EXPECTED


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('a.txt', '0 0 sky', "'0 0 sky' is not `R G B NAME`"),
        ('a.txt', '0 0 256 sky', 'not a name with a colour'),
        ('a.txt', '0 0 1 sky\n0 0 1 tree', r'colour \(0, 0, 1\) occurs twice'),
        ('a.txt', '0 0 1 sky\n0 0 2 sky', 'name sky occurs twice'),
        ('a.txt', '', 'has 0 classes'),
        ('a.csv', 'sky,1,2', 'sky,1,2 is not a name with a colour'),
        ('a.json', '{', 'not valid JSON'),
        ('a.json', '3', 'has neither'),
        ('a.json', '{"sky": [1, 2]}', "'sky' is not a name with a colour"),
    ],
)
def test_faults_of_legends_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(LegendError, match=rf'{name}.*{message}'):
        read_legend(tmp_path / name)
    with pytest.raises(FileNotFoundError, match='there is no legend'):
        read_legend(tmp_path / 'nowhere.txt')
    (tmp_path / 'b.txt').write_text('1 2 3 sky\n')
    with pytest.raises(LegendError, match='has no water, which is to be ignored'):
        read_legend(tmp_path / 'b.txt', ['water'])


def picture(path: Path, labels: np.ndarray, mode: str = 'RGB') -> None:
    """Write the colours of labels; 2 is the void, 3 a colour of no class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array([*COLOURS.values(), (9, 8, 7)], np.uint8)[labels])
    (image.quantize(4) if mode == 'P' else image.convert(mode)).save(path)


def test_colours_become_labels(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (6, 9))
    for name, mode in (('a.png', 'RGB'), ('sub/b.png', 'RGBA'), ('c.tif', 'P'), ('.hidden/d.png', 'RGB')):
        picture(tmp_path / 'in' / name, labels, mode)
    report = convert_masks(tmp_path / 'in', tmp_path / 'out', EXPECTED, workers=2)
    assert report.is_sound and '3 of 3 masks written, 2 of 2 classes occur' in report.facts[0]
    for name in ('a.png', 'sub/b.png', 'c.png'):
        with Image.open(tmp_path / 'out' / name) as image:
            assert image.mode == 'L'
            assert np.array_equal(np.array(image), np.array([0, 1, 255])[labels])
    assert (tmp_path / 'out' / 'classes.txt').read_text() == 'sky\ntall tree\n'
    assert not (tmp_path / 'out' / '.hidden').exists()


def test_unknown_colours_are_named(tmp_path: Path) -> None:
    labels = np.zeros((4, 5), int)
    picture(tmp_path / 'in' / 'a.png', labels)
    labels[0, :3] = 3
    picture(tmp_path / 'in' / 'b.png', labels)
    report = convert_masks(tmp_path / 'in', tmp_path / 'out', EXPECTED)
    [finding] = report.findings
    assert finding.kind == UNKNOWN_COLOURS and finding.detail == '(9, 8, 7) (3 pixels)' and finding.is_fault
    assert [path.name for path in (tmp_path / 'out').glob('*.png')] == ['a.png']
    assert convert_masks(tmp_path / 'in', tmp_path / 'out', EXPECTED, ignore_unknown=True).is_sound
    with Image.open(tmp_path / 'out' / 'b.png') as image:
        assert np.array_equal(np.array(image), np.where(labels == 3, 255, 0))


def test_folders_that_cannot_be_converted(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='there is no folder'):
        convert_masks(tmp_path / 'nowhere', tmp_path / 'out', EXPECTED)
    with pytest.raises(FileNotFoundError, match='has no pictures'):
        convert_masks(tmp_path, tmp_path / 'out', EXPECTED)
    picture(tmp_path / 'in' / 'a.png', np.zeros((2, 2), int))
    with pytest.raises(ValueError, match='they are not overwritten'):
        convert_masks(tmp_path / 'in', tmp_path / 'in', EXPECTED)
    picture(tmp_path / 'in' / 'a.tif', np.zeros((2, 2), int))
    with pytest.raises(ValueError, match='several pictures called a,'):
        convert_masks(tmp_path / 'in', tmp_path / 'out', EXPECTED)


def test_the_tool(tmp_path: Path, monkeypatch, capsys) -> None:
    picture(tmp_path / 'in' / 'a.png', np.zeros((2, 2), int))
    (tmp_path / 'a.txt').write_text(rows('{0} {1} {2} {3}'))
    words = [str(TOOL), str(tmp_path / 'in'), str(tmp_path / 'out'), '--legend', str(tmp_path / 'a.txt')]
    for extra, status in ((['--ignore', 'void'], 0), (['--ignore', 'water'], 2)):
        monkeypatch.setattr(sys, 'argv', [*words, *extra])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOL), run_name='__main__')
        assert ended.value.code == status
    captured = capsys.readouterr()
    assert '1 of 1 masks written, 1 of 2 classes occur' in captured.out
    assert 'has no water, which is to be ignored' in captured.err


def test_colours_of_label_maps_and_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).choice(np.array([0, 1, 255], np.uint8), (6, 7))
    for name in ('a', 'deep/b'):
        (tmp_path / 'labels' / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(tmp_path / f'labels/{name}.png')
    assert colour_masks(tmp_path / 'labels', tmp_path / 'rgb', EXPECTED).is_sound
    assert convert_masks(tmp_path / 'rgb', tmp_path / 'again', EXPECTED).is_sound
    assert colour_masks(tmp_path / 'labels', tmp_path / 'palette', EXPECTED, palette=True).is_sound
    for name in ('a', 'deep/b'):
        np.testing.assert_array_equal(np.array(Image.open(tmp_path / f'again/{name}.png')), values)
        picture = Image.open(tmp_path / f'palette/{name}.png')
        np.testing.assert_array_equal(np.array(picture), values)  # a palette keeps the labels
        colours = np.array(Image.open(tmp_path / f'rgb/{name}.png'))
        np.testing.assert_array_equal(np.array(picture.convert('RGB')), colours)
        assert {tuple(colour) for colour in colours.reshape(-1, 3).tolist()} == set(COLOURS.values())
    with pytest.raises(FileExistsError, match='nothing is overwritten'):
        colour_masks(tmp_path / 'labels', tmp_path / 'rgb', EXPECTED)
    report = colour_masks(tmp_path / 'labels', tmp_path / 'other', Legend(('sky',), {(1, 2, 3): 0}))
    assert not report.is_sound and '1, 255: name the class of ignored pixels' in report.text()
    assert not (tmp_path / 'other').exists()
