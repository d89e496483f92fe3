"""Files of training code: what lies beside the weights is read without running anything."""

from __future__ import annotations

import collections
import datetime
import enum
import io
import os
import pathlib
import pickle
import subprocess
import sys
import types
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from safetensors.torch import save_file

from resformer_mm import repairs
from resformer_mm.checkpoints import CheckpointError, read_weights
from resformer_mm.checkpoints.reading import read_content
from resformer_mm.checkpoints.stand_ins import StandIn
from resformer_mm.compat.memory_limits import MemoryLimits

WEIGHTS = {'blocks.0.norm1.weight': torch.arange(3.0)}


def third_party() -> types.ModuleType:
    """Make a module that is not part of Python, with kinds of settings that libraries define."""
    module = types.ModuleType('someones_package')

    class Settings(dict):  # as yacs, easydict and addict
        pass

    class Choice(enum.Enum):
        LEFT = 1

    class Options:  # as omegaconf
        __slots__ = ('value', '__dict__')

        def __init__(self) -> None:
            self.value, self.name = 3, 'x'

    class Names(list):
        pass

    def run(path: str) -> None:
        os.mkdir(path)

    for kind in (Settings, Choice, Options, Names, run):
        kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
        setattr(module, kind.__name__, kind)
    return module


@pytest.fixture
def library(monkeypatch) -> Iterator[types.ModuleType]:
    module = third_party()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    yield module


@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
def test_what_training_code_stores_is_read(
    library: types.ModuleType, tmp_path: Path, monkeypatch, legacy: bool
) -> None:
    choices = library.Choice.LEFT
    content = {
        'model': collections.defaultdict(list, WEIGHTS),
        'args': Namespace(
            lr=0.1, output_dir=pathlib.PurePosixPath('/a/b'), data=pathlib.PureWindowsPath('C:/x')
        ),
        'version': torch.__version__,
        'simple': types.SimpleNamespace(a=[1], b=None),
        'counter': collections.Counter(a=2),
        'deque': collections.deque([1, 2]),
        'when': datetime.datetime(2024, 1, 2),
        'settings': library.Settings(a=1, b=library.Settings(c=2)),
        'config': Config(dict(a=1))._cfg_dict,
        'config dict': ConfigDict(a=dict(b=1)),
        'choice': choices,
        'options': library.Options(),
        'names': library.Names(['a']),
        'text': np.str_('abc'),
        'texts': np.array(['abc', 'd']),
        'numbers': [np.float32(1.5), np.arange(3)],
        'sets': {1, 2},
        'kind': int,
    }
    path = tmp_path / 'run.pth'
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    monkeypatch.delitem(sys.modules, 'someones_package')  # the package need not be installed
    imported = set(sys.modules)
    loaded = read_content(path)
    assert list(loaded) == list(content)
    assert type(loaded['model']) is dict
    assert torch.equal(loaded['model']['blocks.0.norm1.weight'], torch.arange(3.0))
    assert loaded['args'] == {'lr': 0.1, 'output_dir': '/a/b', 'data': 'C:\\x'}
    assert isinstance(loaded['args'], StandIn)
    assert loaded['version'] == str(torch.__version__) and type(loaded['version']) is str
    assert loaded['simple'] == {'a': [1], 'b': None}
    assert loaded['counter'] == {'a': 2} and loaded['deque'] == [1, 2]
    assert loaded['settings'] == {'a': 1, 'b': {'c': 2}}
    assert loaded['config dict'] == {'a': {'b': 1}}
    assert loaded['choice'].args == (1,)
    assert loaded['options'] == {'value': 3, 'name': 'x'}
    assert loaded['names'].parts == ['a']
    assert loaded['text'] == 'abc' and loaded['numbers'][0] == np.float32(1.5)
    assert loaded['sets'] == {1, 2}
    assert not {name for name in set(sys.modules) - imported if not name.startswith('encodings.')}
    assert torch.equal(read_weights(path).state['blocks.0.norm1.weight'], torch.arange(3.0))


class Call:
    def __init__(self, function: Callable, *arguments: object) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple:
        return self.reduced


@pytest.mark.parametrize('name', ['system', 'Popen', 'eval', 'function', 'inside'])
@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
def test_nothing_is_run(library: types.ModuleType, tmp_path: Path, name: str, legacy: bool) -> None:
    trace, path = tmp_path / 'trace', tmp_path / 'evil.pth'
    evil = {
        'system': Call(os.system, f'mkdir {trace}'),
        'Popen': Call(subprocess.Popen, ['mkdir', str(trace)]),
        'eval': Call(eval, f'__import__("os").mkdir({str(trace)!r})'),
        'function': Call(library.run, str(trace)),
        'inside': Call(library.Settings, Call(os.mkdir, str(trace))),
    }[name]
    torch.save({'model': WEIGHTS, 'args': Namespace(a=evil)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match='evil.pth is refused.*could run code'):
        read_content(path)
    assert not trace.exists()


@pytest.mark.parametrize('length', [0, 16])
def test_a_tensor_without_its_data_is_an_error(tmp_path: Path, length: int) -> None:
    """PyTorch before 2.10 fills it with the memory beyond."""
    buffer, path = io.BytesIO(), tmp_path / 'short.pth'
    torch.save({'model': {'a': torch.arange(1000.0)}}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, 'w') as target:
        for entry in source.infolist():
            data = source.read(entry)
            target.writestr(entry.filename, data[:length] if entry.filename.endswith('data/0') else data)
    with pytest.raises(
        CheckpointError, match=f'short.pth is corrupt.*{length} bytes of data instead of 4000'
    ):
        read_weights(path)


@pytest.mark.parametrize(
    'prefix', ['module.', '_orig_mod.', 'module._orig_mod.', '_orig_mod.module.', 'module.module.']
)
@pytest.mark.parametrize('key', ['state_dict', 'model', '', 'model_ema', 'state_dict_ema', 'ema_state_dict'])
def test_what_wrappers_put_before_names_is_taken_off(
    tmp_path: Path, monkeypatch, prefix: str, key: str
) -> None:
    told: list[str] = []
    monkeypatch.setattr(repairs, 'print_log', lambda text, **kwargs: told.append(text))
    monkeypatch.setattr(repairs, '_told', set())
    state = {f'{prefix}{name}': value for name, value in WEIGHTS.items()}
    torch.save({key: state} if key else state, tmp_path / 'run.pth')
    assert list(read_weights(tmp_path / 'run.pth').state) == list(WEIGHTS)
    assert told and all(line.startswith('repaired: ') and 'run.pth' in line for line in told)


def test_a_compiled_part_is_unwrapped(tmp_path: Path) -> None:
    torch.save({'state_dict': {'backbone._orig_mod.cls_token': torch.ones(1)}}, tmp_path / 'run.pth')
    assert list(read_weights(tmp_path / 'run.pth').state) == ['backbone.cls_token']


@pytest.mark.parametrize('name', ['model.safetensors', 'model.pth'])
def test_files_of_safetensors(tmp_path: Path, name: str) -> None:
    save_file({f'_orig_mod.{key}': value for key, value in WEIGHTS.items()}, tmp_path / name)
    assert torch.equal(read_weights(tmp_path / name).state['blocks.0.norm1.weight'], torch.arange(3.0))
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=f'{name} is corrupt'):
        read_weights(tmp_path / name)


def test_a_storage_that_is_not_referred_to_as_pytorch_does() -> None:
    with pytest.raises(pickle.UnpicklingError, match='unexpected reference to a storage'):
        MemoryLimits(8, {}).check_storage(('storage', torch.FloatStorage, '0'))
