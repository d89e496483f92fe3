"""Hostile checkpoints."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resformer_mm.checkpoints.reading import CheckpointError, load_from_local, read_content

from .case import HARMLESS, TRACE, Case, written

PROTOCOLS = range(6)
_START, _END = b'\x80\x04', b'.'


class Call:
    """An object whose pickled form calls a function, and may set a state."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple:
        return self.reduced


def archive(
    pickled: bytes, records: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED
) -> bytes:
    """Return an archive as ``torch.save`` writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', method) as target:
        for name, content in {'data.pkl': pickled, 'byteorder': b'little', **(records or {})}.items():
            target.writestr(f'archive/{name}', content)
        target.writestr('archive/version', '3\n')
    return buffer.getvalue()


class _Storage:
    pass


def tensor(number: int, size: Iterable[int], stride: Iterable[int], view: tuple = ()) -> bytes:
    """Return the pickled form of a state dict with a tensor, given the elements of its storage."""
    buffer = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> tuple | None:
            is_storage = isinstance(value, _Storage)
            return ('storage', torch.FloatStorage, '0', 'cpu', number, *view) if is_storage else None

    arguments = (_Storage(), 0, tuple(size), tuple(stride), False, OrderedDict())
    Pickler(buffer, 2).dump({'state_dict': {'w': Call(torch._utils._rebuild_tensor_v2, arguments)}})
    return buffer.getvalue()


def legacy(number: int) -> bytes:
    """Return a file in the format before PyTorch 1.6 with a tensor of too many elements."""
    parts = [
        0x1950A86A20F9469CFC6C,
        1001,
        {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {}},
    ]
    head = b''.join(pickle.dumps(part, 2) for part in parts)
    body = tensor(number, [number], [1], (None,)) + pickle.dumps(['0'], 2)
    return head + body + struct.pack('<q', number) + bytes(16)


def array(shape: tuple, dtype_state: tuple, data: object) -> bytes:
    """Return the pickled form of an array of forged shape or type."""
    dtype = Call(np.dtype, ('f8', False, True), dtype_state)
    state = (1, shape, dtype, False, data)
    return pickle.dumps({'state_dict': {}, 'x': Call(*np.empty(0).__reduce__()[:2], state)}, 4)


def safetensors(header: dict | bytes, body: bytes = b'', length: int | None = None) -> bytes:
    """Return a file of safetensors."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(text) if length is None else length) + text + body


def entry(start: int, end: int, shape: tuple = (1,)) -> dict:
    """Return the header of a tensor of safetensors."""
    return {'dtype': 'F32', 'shape': shape, 'data_offsets': [start, end]}


def calls(folder: Path) -> dict[str, Call]:
    """Return objects that would make a file, by several functions."""
    trace = str(folder / TRACE)
    return {
        'os.system': Call(os.system, (f'touch {trace}',)),
        'eval': Call(eval, (f'open({trace!r}, "w")',)),
        'exec': Call(exec, (f'open({trace!r}, "w")',)),
        'Popen': Call(subprocess.Popen, (['touch', trace],)),
        'open': Call(open, (trace, 'w')),
    }


def executing(suffix: str, is_archive: bool) -> Callable[[Path], list[Path]]:
    """Return a function that writes a file for every function and protocol of pickle."""

    def make(folder: Path) -> list[Path]:
        paths = []
        for name, call in calls(folder).items():
            for protocol in PROTOCOLS:
                content = pickle.dumps({'state_dict': {'w': call}}, protocol)
                paths.append(folder / f'{name}_{protocol}{suffix}')
                paths[-1].write_bytes(archive(content) if is_archive else content)
        return paths

    return make


def refuse_all(paths: list[Path]) -> str:
    """Read all files; return the names of those that are not refused, or raise the last refusal."""
    accepted, refusal = [], None
    for path in paths:
        try:
            read_content(path)
            accepted.append(path.name)
        except CheckpointError as error:
            refusal = error
    if refusal is not None and not accepted:
        raise refusal
    return f'accepted: {", ".join(accepted)}'


def tar(folder: Path) -> bytes:
    """Return a checkpoint of the first format, with a member that would leave the folder."""
    buffer = io.BytesIO()
    content = pickle.dumps(calls(folder)['os.system'], 2)
    with tarfile.open(fileobj=buffer, mode='w') as target:
        for name in ('storages', 'tensors', 'pickle', f'../{TRACE}'):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def meta_config(folder: Path) -> Path:
    """Write a checkpoint whose config, as text, would be run on resuming."""
    meta = {'epoch': 0, 'iter': 0, 'config': f'open({str(folder / TRACE)!r}, "w")'}
    torch.save({'meta': meta, 'state_dict': {'w': torch.zeros(1)}}, folder / 'run.pth')
    return folder / 'run.pth'


def resume_from(path: Path) -> str:
    """Read a checkpoint for MMEngine's runner, which runs a config in its meta data."""
    content = load_from_local(str(path), 'cpu')
    exec(content['meta'].get('config', ''))
    return 'its config is left out'


def nested_lists(depth: int) -> bytes:
    """Return instructions for lists whose text has ten to the power of ``depth`` letters."""
    lists = [b'](' + b'U\x0aaaaaaaaaaa' * 10 + b'eq\0']
    lists += [b'](' + bytes([ord('h'), level - 1]) * 10 + b'eq' + bytes([level]) for level in range(1, depth)]
    return b'(' + b''.join(lists) + b't'


def program(*parts: bytes) -> bytes:
    """Return an archive whose pickled data are these instructions."""
    return archive(_START + b''.join(parts) + _END)


def at(name: str, content: bytes | Callable[[Path], bytes], attack: str, *outcome: str) -> Case:
    """Return the case of a checkpoint file."""
    return Case('checkpoint', name, attack, written(name.split(' ')[0], content), _describe, *outcome)


def _describe(path: Path) -> str:
    return f'a {type(read_content(path)).__name__}'


def sparse_file(folder: Path) -> Path:
    """Write a file of a terabyte that takes no place on the disk."""
    with open(folder / 'sparse.pth', 'wb') as file:
        file.truncate(2**40)
    return folder / 'sparse.pth'


_F8 = (3, '<', None, None, None, -1, -1, 0)
_CODE, _MEMORY, _CRASH = 'runs code', 'fills the memory', 'crashes the process'
CASES = (
    Case('checkpoint', 'pickle, protocols 0 to 5, .pth', _CODE, executing('.pth', False), refuse_all),
    Case('checkpoint', 'pickle, protocols 0 to 5, .pkl', _CODE, executing('.pkl', False), refuse_all),
    Case('checkpoint', 'archive, protocols 0 to 5, .pt', _CODE, executing('.pt', True), refuse_all),
    at('old.pth (tar)', tar, 'runs code, leaves the folder'),
    at(
        'script.pth (constants.pkl)',
        lambda folder: archive(b'N.', {'constants.pkl': pickle.dumps(calls(folder)['os.system'])}),
        _CODE,
        'refused',
        'TorchScript',
    ),
    Case(
        'checkpoint', 'config in the meta data', 'runs code on resuming', meta_config, resume_from, HARMLESS
    ),
    at(
        'bomb.pth (compressed record)',
        lambda _: archive(tensor(2**23, [2**23], [1]), {'data/0': bytes(2**25)}, zipfile.ZIP_DEFLATED),
        _MEMORY,
        'refused',
        'its records are 33\\d+ bytes, compressed to 3',
    ),
    at(
        'claims.pth (2^40 elements, 4 bytes)',
        archive(tensor(2**40, [2**40], [1]), {'data/0': bytes(4)}),
        _MEMORY,
    ),
    at('legacy.pth (2^40 elements, 4 bytes)', legacy(2**40), _MEMORY),
    at(
        'expanded.pth (2^40 elements, strides 0)',
        archive(tensor(1, [2**40], [0]), {'data/0': bytes(4)}),
        _MEMORY,
        'refused',
        'would take 43\\d+ bytes of memory',
    ),
    at(
        'outside.pth (sizes beyond the data)',
        archive(tensor(1, [2**20], [1]), {'data/0': bytes(4)}),
        'reads memory',
    ),
    at(
        'negative.pth (negative stride)', archive(tensor(4, [2], [-1]), {'data/0': bytes(16)}), 'reads memory'
    ),
    at('key.pth (tuple of 10^5 levels as a key)', program(b'})', b'\x85' * 10**5, b'Ns'), _CRASH),
    at(
        'doubled.pth (key of 2^60 parts)',
        program(b'})q\0', *(bytes([ord('h'), i, 0x86, ord('q'), i + 1]) for i in range(60)), b'Ns'),
        'takes for ever',
    ),
    at(
        'laughs.pth (text of lists of lists)',
        program(nested_lists(10), b'cbuiltins\nstr\nh\x09\x85R', b'\x86'),
        _MEMORY,
        HARMLESS,
    ),
    at(
        'buffer.pth (bytearray of 2^40)',
        program(b'cbuiltins\nbytearray\n\x8a\x06' + bytes(5) + b'\1\x85R'),
        _MEMORY,
        HARMLESS,
    ),
    at('lists.pth (millions of containers)', program(b'(', b'\x8f' * 2**23, b't'), _MEMORY),
    at(
        'copies.pth (a text copied often)',
        program(
            b'(X' + struct.pack('<I', 2**20) + b'a' * 2**20 + b'q\0X\x06\0\0\0latin1q\1c_codecs\nencode\nq\2',
            b'h\2h\0h\1\x86R' * 2**11 + b't',
        ),
        _MEMORY,
    ),
    at('memo.pth (entry 2^31 - 1)', program(b'Nr\xff\xff\xff\x7f'), _MEMORY, HARMLESS),
    at(
        'frame.pth (frame of 2^40 bytes)',
        program(b'\x95' + struct.pack('<Q', 2**40) + b'N'),
        _MEMORY,
        HARMLESS,
    ),
    at('text.pth (text of 2^40 bytes)', program(b'\x8d' + struct.pack('<Q', 2**40) + b'x'), _MEMORY),
    at('array.pth (shape of 2^64 elements)', archive(array((2**33, 2**31), _F8, b'')), 'reads memory'),
    at('flags.pth (numbers as references)', archive(array((2,), (*_F8[:7], 63), [1.5, 2.5])), _CRASH),
    at(
        'fields.pth (type of another size)',
        archive(array((2,), (3, '<', None, None, None, 2**20, 1, 0), bytes(16))),
        'reads memory',
        HARMLESS,
    ),
    at('header.safetensors (2^40 bytes of header)', safetensors(b'{}', length=2**40), _MEMORY),
    at('overlap.safetensors', safetensors({'a': entry(0, 4), 'b': entry(0, 4)}, bytes(4)), 'shares data'),
    at(
        'beyond.safetensors (data beyond the end)',
        safetensors({'a': entry(0, 2**40, (2**38,))}, bytes(4)),
        _MEMORY,
    ),
    at('shape.safetensors (2^66 elements)', safetensors({'a': entry(0, 0, (2**33, 2**33))}), _MEMORY),
    at('deep.safetensors (nested JSON)', safetensors(b'{"a":' + b'[' * 10**5 + b']' * 10**5 + b'}'), _CRASH),
    Case('checkpoint', 'a file of 2^40 zeros', _MEMORY, sparse_file, _describe),
    Case(
        'checkpoint', '/dev/zero', _MEMORY, lambda _: Path('/dev/zero'), _describe, 'refused', 'is not a file'
    ),
)
