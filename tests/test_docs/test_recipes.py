"""Every command of the recipes is understood by its tool, and every config line by a config."""

from __future__ import annotations

import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from pages import DOCS, ROOT, blocks

from resformer_mm.config.files import enter_scope, read_config

pytest.importorskip('mmpretrain')

PAGE = DOCS / 'recipes.md'
COMMANDS = [
    line for code in blocks(PAGE, 'bash') for line in code.replace('\\\n', ' ').splitlines() if line.strip()
]
LINES = [code for code in blocks(PAGE, 'python') if ' = dict(' in code]
CONFIGS = ROOT / 'configs'
CLASSIFIER = CONFIGS / 'classification' / 'resformer-small_mr-224-160-128_8xb128-300e_in1k.py'
SEGMENTOR = CONFIGS / 'segmentation' / 'resformer-small_mr-224-160-128_upernet_8xb2-80k_ade20k-512x512.py'


@pytest.mark.slow
@pytest.mark.parametrize('command', COMMANDS)
def test_commands_are_understood(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    program, tool, *words = shlex.split(command, comments=True)
    path = ROOT / tool
    assert path.is_file()
    if program == 'bash':
        assert path.suffix == '.sh' and len(words) >= 2
        return
    assert program == 'python'
    monkeypatch.chdir(tmp_path)  # where nothing else of what the commands name exists
    (tmp_path / 'CHECKPOINT').touch()
    words = [str(CLASSIFIER) if word == 'CONFIG' else word for word in words]
    monkeypatch.setattr(sys, 'argv', [str(path), *words])
    parse_args = runpy.run_path(str(path), run_name='a_tool')['parse_args']
    try:
        parsed = parse_args()
    except SystemExit as error:
        pytest.fail(f'{command}: {capsys.readouterr().err}, status {error.code}')
    args = parsed[1] if isinstance(parsed, tuple) else parsed
    if getattr(args, 'cfg_options', None):
        read_config(CLASSIFIER, args.cfg_options)  # refuses what has no effect


@pytest.mark.slow
@pytest.mark.parametrize('code', LINES)
def test_config_lines_give_a_config(code: str, tmp_path: Path) -> None:
    base = SEGMENTOR if 'decode_head' in code else CLASSIFIER
    code = code.replace("_base_ = 'CONFIG'\n", '')
    (tmp_path / 'config.py').write_text(f'_base_ = {str(base)!r}\n{code}')
    cfg = Config.fromfile(tmp_path / 'config.py')
    assert cfg.pretty_text != Config.fromfile(base).pretty_text
    if 'model = ' not in code:
        return
    if base == SEGMENTOR:
        pytest.importorskip('mmseg.models')
    enter_scope(cfg)
    try:
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
    finally:
        DefaultScope._instance_dict.clear()
    added = Config.fromstring(code, '.py').model
    for part, settings in added.items():
        if settings is not None and 'type' in settings:
            assert type(getattr(model, part)).__name__ == settings.type.rpartition('.')[2]


def test_the_page_has_recipes_to_test() -> None:
    assert len(COMMANDS) > 25 and len(LINES) > 4
