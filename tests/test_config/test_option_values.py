"""``--cfg-options``: dicts as in a config, everything else as MMEngine reads it."""

from __future__ import annotations

import argparse

import pytest
from mmengine.config import Config, DictAction

from resformer_mm.config.command_line import add_config_options
from resformer_mm.config.option_values import parse_literal


def parse(*words: str) -> dict:
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    return parser.parse_args(['--cfg-options', *words]).cfg_options


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ("dict(type='LogTokensScale', tokens=[65, 37])", {'type': 'LogTokensScale', 'tokens': [65, 37]}),
        ("[dict(type='A'), dict(type='B', size=(3, 4))]", [{'type': 'A'}, {'type': 'B', 'size': (3, 4)}]),
        ("{'a b': dict(c=None), 'd': -1.5e-3}", {'a b': {'c': None}, 'd': -0.0015}),
        ('dict()', {}),
    ],
)
def test_dicts_are_those_of_a_config(text: str, value: object) -> None:
    assert parse(f'model.backbone.part={text}') == {'model.backbone.part': value}
    cfg = Config.fromstring(f'part = {text}', '.py')
    assert cfg.part == value


@pytest.mark.parametrize(
    'text', ['1,2,3', '[a,b]', '(1, [2, x])', 'name', "'quoted'", '1e-3', 'None', 'a=b', '']
)
def test_other_values_are_those_of_mmengine(text: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    expected = parser.parse_args(['--cfg-options', f'key={text}']).cfg_options
    assert parse(f'key={text}') == expected


def test_options_add_up() -> None:
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    words = ['--cfg-options', 'a=1', 'b=dict(c=2)', '--cfg-options', 'b=dict(d=3)', 'e=f']
    assert parser.parse_args(words).cfg_options == {'a': 1, 'b': {'d': 3}, 'e': 'f'}


@pytest.mark.parametrize(
    ('word', 'message'),
    [
        ('key', 'key: give key=value'),
        ('key=dict(type=Name)', 'cannot be read: write dict'),
        ('key=dict(a=1', 'cannot be read'),
        ("key=dict(a=open('x'))", 'cannot be read'),
        ('key=dict(**{})', 'cannot be read'),
        ('key={**{}}', 'cannot be read'),
    ],
)
def test_mistakes_are_usage_errors(word: str, message: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(word)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ValueError, match='cannot be read'):
        parse_literal('dict(a=' * 3000 + '1' + ')' * 3000)
