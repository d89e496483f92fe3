"""Reading of files without running code, within the memory that their size allows."""

from __future__ import annotations

import codecs
import collections
import copyreg
import functools
import io
import os
import pickle
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resformer_mm.compat.restricted_unpickler import RestrictedUnpickler
from resformer_mm.compat.weights_only import load_weights_only

each_layout = pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])


def save(content: object, path: Path, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


class Note:
    """A class of which a file holds an object."""

    def __init__(self, text: str) -> None:
        self.text = text


class Replacement:
    state: dict = {}

    def __init__(self, *args: object) -> None:
        self.args = args

    def __setstate__(self, state: dict) -> None:
        self.state = state


# ------------------------------------------------------------------------------------ what is read


@each_layout
def test_tensors_and_containers_come_back_as_they_were(legacy: bool, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    shared = torch.arange(12.0)
    content = {
        'state_dict': model.state_dict(),
        'optimizer': optimizer.state_dict(),
        'parameter': nn.Parameter(torch.randn(3)),
        'views': [shared[:4], shared.view(3, 4).t()],
        'half': torch.randn(3).half(),
        'bfloat16': torch.randn(3).bfloat16(),
        'bool': torch.tensor([True, False]),
        'dtype': torch.bfloat16,
        'plain': [None, True, 3, -(10**30), 0.5, 'text', (1,), {2}, b'\x00\xff', 1 + 2j],
        'size': torch.Size([2, 3]),
        'device': torch.device('cpu'),
    }
    loaded = load_weights_only(save(content, tmp_path / 'file.pth', legacy), 'cpu')
    assert list(loaded) == list(content)
    assert_same(loaded, content)
    assert loaded['state_dict']._metadata == content['state_dict']._metadata
    assert type(loaded['parameter']) is nn.Parameter and loaded['parameter'].requires_grad
    first, second = loaded['views']
    first.fill_(7)
    assert second[0, 0] == 7 and not second.is_contiguous()  # both are views of one storage


def assert_same(actual: object, expected: object) -> None:
    assert type(actual) is type(expected)
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert_same(actual[key], value)
    elif isinstance(expected, list):
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, Tensor):
        assert actual.dtype == expected.dtype and torch.equal(actual, expected)
    else:
        assert actual == expected


@pytest.mark.parametrize(
    'array',
    [
        np.arange(6, dtype='i2').reshape(2, 3),
        np.asfortranarray(np.random.default_rng(0).normal(size=(3, 4))),
        np.array([1, 2], dtype='>f4'),
        np.array([True, False]),
        np.array(3, dtype='u8'),
        np.ones((1, 4), dtype='f2'),
        np.array([1 + 2j]),
    ],
    ids=lambda array: f'{array.dtype.str} {array.shape}',
)
def test_arrays_and_numbers_come_back_as_they_were(array: np.ndarray, tmp_path: Path) -> None:
    native = array.dtype.newbyteorder('=')  # NumPy swaps the bytes of others
    number = array.astype(native).reshape(-1)[:1]
    content = {'array': array, 'numbers': list(number)}
    loaded = load_weights_only(save(content, tmp_path / 'file.pth'), 'cpu')
    assert type(loaded['array']) is np.ndarray and loaded['array'].dtype == native
    assert np.array_equal(loaded['array'], array)
    assert [(type(x), x) for x in loaded['numbers']] == [(type(x), x) for x in number]
    assert np.dtype('f4').byteorder == '='  # the types of the process are not those of the file


def test_a_class_is_read_as_its_replacement(tmp_path: Path) -> None:
    path = save({'note': Note('some text')}, tmp_path / 'file.pth')
    name = f'{Note.__module__}.Note'
    loaded = load_weights_only(path, 'cpu', {name: Replacement})['note']
    assert type(loaded) is Replacement and loaded.state == {'text': 'some text'}
    with pytest.raises(pickle.UnpicklingError, match='GLOBAL .*Note'):
        load_weights_only(path, 'cpu')


def test_the_place_of_tensors_is_chosen(tmp_path: Path) -> None:
    path = save({'x': torch.ones(3)}, tmp_path / 'file.pth')
    assert load_weights_only(path, 'meta')['x'].device.type == 'meta'


def test_the_variable_that_demands_restricted_reading(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    assert load_weights_only(save([1], tmp_path / 'file.pth'), 'cpu') == [1]
    assert os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] == '1'


# --------------------------------------------------------------------------------- what is refused


class Reduced:
    """An object whose pickled form calls a function."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple:
        return self.reduced


def attacks(trace: str) -> dict[str, object]:
    """Objects that make the folder ``trace`` if a reader runs what they ask for."""
    return {
        'function': Reduced(os.mkdir, trace),
        'evaluation': Reduced(eval, f'__import__("os").mkdir({trace!r})'),
        'partial': Reduced(functools.partial(os.mkdir, trace)),
        'in a mapping': collections.OrderedDict(a=Reduced(os.mkdir, trace)),
        'as an argument': Reduced(collections.OrderedDict, [('a', Reduced(os.mkdir, trace))]),
        'argument of a tensor': Reduced(torch._utils._rebuild_tensor_v2, Reduced(os.mkdir, trace)),
        'array of objects': np.array([Reduced(os.mkdir, trace)], dtype=object),
        'reader of files': Reduced(torch.load, trace),
        'import': Reduced(__import__, 'os'),
        'attribute': Reduced(getattr, 'text', 'join'),
    }


@each_layout
@pytest.mark.parametrize('name', attacks(''))
def test_nothing_is_run(legacy: bool, name: str, tmp_path: Path) -> None:
    trace = tmp_path / 'trace'
    path = save({'state_dict': {}, 'extra': attacks(str(trace))[name]}, tmp_path / 'evil.pth', legacy)
    with pytest.raises(Exception) as caught:
        load_weights_only(path, 'cpu')
    assert not trace.exists()
    assert 'GLOBAL' in str(caught.value) or 'allowlisted' in str(caught.value)


def test_torchscript_archives_are_refused(tmp_path: Path) -> None:
    """They hold code, which ``torch.load(weights_only=True)`` of PyTorch before 2.6 loads."""
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / 'script.pth')
    with pytest.raises((RuntimeError, pickle.UnpicklingError), match='TorchScript'):
        load_weights_only(tmp_path / 'script.pth', 'cpu')


def test_tar_files_are_refused(tmp_path: Path) -> None:
    """``torch.load`` would extract members and follow links."""
    path, secret = tmp_path / 'old.pth', tmp_path / 'secret'
    secret.write_bytes(pickle.dumps(0))
    with tarfile.open(path, 'w') as archive:
        for name in ('storages', 'tensors', 'pickle'):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, str(secret)
            archive.addfile(member)
    opened = []
    sys.addaudithook(lambda event, arguments: event == 'open' and opened.append(str(arguments[0])))
    with pytest.raises(Exception):  # noqa: B017  damaged files raise errors of many types
        load_weights_only(path, 'cpu')
    assert str(path) in opened and not any(name.endswith('storages') for name in opened)


# --------------------------------------------------------------------------- the unpickler by itself


def restricted(data: bytes) -> object:
    replacements = {'builtins.getattr': Replacement, 'test.Note': Replacement}
    return RestrictedUnpickler(io.BytesIO(data), replacements, encoding='utf-8').load()


def program(*parts: bytes) -> bytes:
    return b'\x80\x02' + b''.join(parts) + b'.'


def name(module: str, attribute: str) -> bytes:
    return f'c{module}\n{attribute}\n'.encode()


@pytest.mark.parametrize('protocol', range(2, 6))
def test_only_names_of_the_table_are_looked_up(protocol: int) -> None:
    for value in (os.system, os.path.join, print, Note, dict, type, pickle.loads, torch.load, np.load):
        with pytest.raises(pickle.UnpicklingError, match='GLOBAL'):
            restricted(pickle.dumps(value, protocol))


def test_dotted_names_reach_nothing() -> None:
    for module, attribute in (
        ('collections', 'OrderedDict.__init__'),
        ('torch', 'serialization.os.system'),
        ('torch._utils', '_rebuild_tensor_v2.__globals__'),
        ('numpy', 'dtype.__class__'),
    ):
        with pytest.raises(pickle.UnpicklingError, match='GLOBAL'):
            restricted(program(name(module, attribute)))
        with pytest.raises(pickle.UnpicklingError, match='GLOBAL'):
            stack_global = b'\x8c%c%s\x8c%c%s\x93'
            parts = (len(module), module.encode(), len(attribute), attribute.encode())
            restricted(program(stack_global % parts))


@pytest.mark.parametrize(
    'code',
    [
        name('torch', 'float32') + b')R',  # calls what is only passed on
        name('numpy', 'ndarray') + b')R',
        name('builtins', 'set') + b')R' + b')R',  # calls a result
        name('collections', 'OrderedDict') + b')\x81',  # instantiates what may only be called
        name('collections', 'OrderedDict') + b'}b',  # sets the state of a class
        name('torch', 'Size') + b')R}b',
        name('builtins', 'getattr') + b'}b',
        name('builtins', 'set') + b')RK\x01a',  # appends to something else than a list
        name('builtins', 'set') + b')R(K\x01e',
        name('builtins', 'set') + b')RK\x01K\x02s',  # sets items of something else than a dict
        name('torch', 'Size') + b')R(K\x01K\x02u',
        b'(i' + b'collections\nOrderedDict\n',  # instructions that torch.save does not write
        b'(' + name('collections', 'OrderedDict') + b'o',
        b'\x82\x01',
        name('collections', 'OrderedDict') + b')}\x92',
        b'P0\n',
    ],
    ids=repr,
)
def test_objects_are_used_only_as_the_table_says(code: bytes) -> None:
    with pytest.raises((pickle.UnpicklingError, TypeError)):
        restricted(program(code))


def test_registered_extensions_are_not_looked_up() -> None:
    copyreg.add_extension('os', 'system', 0xF5)
    try:
        assert pickle.loads(program(b'\x82\xf5')) is os.system
        with pytest.raises(pickle.UnpicklingError):
            restricted(program(b'\x82\xf5'))
    finally:
        copyreg.remove_extension('os', 'system', 0xF5)


@pytest.mark.parametrize('code', ['O', 'O8', 'V8', 'i4,O', 'M8[s]', 'U3', 'S4', 'f8,f8', '(2,)f4', 'object'])
def test_types_of_other_things_than_numbers_are_refused(code: str) -> None:
    data = pickle.dumps(Reduced(np.dtype, code, False, True), 2)
    with pytest.raises(pickle.UnpicklingError):
        restricted(data)


@pytest.mark.parametrize(
    'state',
    [
        (3, '<', None, None, None, -1, -1, 63),  # flags: numbers are references to objects
        (3, '<', None, ('a',), {'a': (np.dtype('i4'), 0)}, 64, 4, 0),  # fields
        (3, '<', (np.dtype('i4'), (4,)), None, None, 64, 4, 0),  # a type of another size
    ],
)
def test_the_state_of_a_type_cannot_be_forged(state: tuple) -> None:
    class Forged:
        def __reduce__(self) -> tuple:
            return np.dtype, ('f8', False, True), state

    dtype = restricted(pickle.dumps(Forged(), 2))
    assert dtype == np.dtype('f8') and dtype.itemsize == 8 and dtype.fields is None and not dtype.hasobject


@pytest.mark.parametrize(
    'state',
    [
        (1, (2,), np.dtype('f8'), False, b'short'),
        (1, (-1,), np.dtype('f8'), False, b''),
        (1, (2,), 'f8', False, b'x' * 16),
        (1, (2,), np.dtype('f8'), False, [1, 2]),
        (1, ('2',), np.dtype('f8'), False, b'x' * 16),
    ],
    ids=str,
)
def test_the_state_of_an_array_cannot_be_forged(state: tuple) -> None:
    class Forged:
        def __reduce__(self) -> tuple:
            return *np.empty(0).__reduce__()[:2], state

    with pytest.raises((pickle.UnpicklingError, ValueError, TypeError)):
        restricted(pickle.dumps(Forged(), 2))


class Crafted:
    """An object whose pickle calls a permitted function, with any arguments and state."""

    def __init__(self, *reduced: object) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple:
        return self.reduced


SCALAR = np.float32(1).__reduce__()[0]


@pytest.mark.parametrize(
    ('crafted', 'message'),
    [
        (Crafted(codecs.encode, ('x', 'rot13')), 'unexpected encoding'),
        (Crafted(SCALAR, ('f4', b'1234')), 'unexpected arguments of a NumPy scalar'),
        (Crafted(np.dtype, ('f4', False, True), (3, 'x')), 'unexpected state of a NumPy dtype'),
    ],
)
def test_permitted_functions_with_other_arguments(crafted: Crafted, message: str) -> None:
    with pytest.raises(pickle.UnpicklingError, match=message):
        restricted(pickle.dumps(crafted, 2))
