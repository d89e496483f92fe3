"""The gaps of MMEngine's pure-Python configs that `resformer_mm.compat.lazy_configs` closes."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from resformer_mm.compat.lazy_configs import finish_lazy_config, make_writable


def read(folder: Path, text: str) -> Config:
    path = folder / 'config.py'
    path.write_text(text)
    cfg = finish_lazy_config(Config.fromfile(path))
    make_writable(cfg)
    return cfg


def test_custom_modules_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'my_lazy_module.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path)
    text = "from torch.nn import Linear\nhead = Linear\ncustom_imports = dict(imports=['my_lazy_module'])\n"
    read(tmp_path, text)
    assert sys.modules.pop('my_lazy_module').__file__ == str(tmp_path / 'my_lazy_module.py')
    with pytest.raises(ImportError, match='my_missing_module'):
        read(tmp_path, text.replace('my_lazy_module', 'my_missing_module'))


def test_helpers_are_dropped_and_the_text_is_a_config(tmp_path: Path) -> None:
    text = (
        'from torch.nn import Linear\n\ndef make(size):\n    return dict(type=Linear, out_features=size)\n\n'
    )
    cfg = read(tmp_path, f'{text}class Size:\n    side = 4\n\nmodel = dict(head=make(Size.side))\n')
    assert cfg.model.head.type is nn.Linear
    assert 'make' not in cfg and 'Size' not in cfg
    again = Config.fromstring(cfg.pretty_text, '.py')
    assert again.to_dict() == {'model': {'head': {'type': 'torch.nn.Linear', 'out_features': 4}}}


def test_classes_of_python_are_written_by_their_import_path() -> None:
    cfg = Config(
        dict(model=dict(type=nn.Linear, names=[int, (OrderedDict, 'a')]), wrap=dict(a=dict(type=Runner)))
    )
    make_writable(cfg)
    assert cfg.model.type is nn.Linear and cfg.wrap.a.type is Runner
    again = Config.fromstring(cfg.pretty_text, '.py').to_dict()
    assert again['model'] == {
        'type': 'torch.nn.modules.linear.Linear',
        'names': ['builtins.int', ('collections.OrderedDict', 'a')],
    }
    assert again['wrap'] == {'a': {'type': 'mmengine.runner.runner.Runner'}}


def test_what_cannot_be_imported_is_named() -> None:
    class Local(BaseModel):
        pass

    for value in (Local, lambda x: x):
        cfg = Config(dict(model=dict(heads=[dict(type=value)])))
        with pytest.raises(ValueError, match=r'the config: model.heads.0.type is <.*define it in a module'):
            make_writable(cfg)
