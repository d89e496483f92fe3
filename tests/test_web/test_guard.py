"""Which requests reach the page, and how many pictures of visitors are kept."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from resformer_mm.web import guard
from resformer_mm.web.guard import LARGEST_FILE, Guard
from resformer_mm.web.held_pictures import HeldPictures


def ask(
    served: str = '127.0.0.1',
    method: str = 'GET',
    kind: str = 'http',
    parts: list[bytes] | None = None,
    **headers: str,
) -> tuple[object, int]:
    """Return status of the answer, or code of a closed web socket, and the bytes that the page has read."""
    seen, sent = [], []
    pending = list(parts or [])

    async def app(scope, receive, send) -> None:
        while scope['type'] == 'http':
            message = await receive()
            seen.append(message['body'])
            if not message['more_body']:
                break
        await send({'type': f'{scope["type"]}.response.start', 'status': 200})

    async def receive() -> dict:
        return {
            'type': 'http.request',
            'body': pending.pop(0) if pending else b'',
            'more_body': bool(pending),
        }

    async def send(message) -> None:
        sent.append(message)

    given = {'host': '127.0.0.1:8080', **{name.replace('_', '-'): value for name, value in headers.items()}}
    scope = {'type': kind, 'method': method, 'headers': [(k.encode(), v.encode()) for k, v in given.items()]}
    asyncio.run(Guard(app, served)(scope, receive, send))
    return sent[0].get('status', sent[0].get('code')), sum(map(len, seen))


@pytest.mark.parametrize('kind', ['http', 'websocket'])
@pytest.mark.parametrize(
    ('served', 'headers', 'is_answered'),
    [
        ('127.0.0.1', {}, True),
        ('127.0.0.1', {'host': 'localhost:8080'}, True),
        ('127.0.0.1', {'host': '[::1]:8080'}, True),
        ('127.0.0.1', {'origin': 'http://127.0.0.1:8080'}, True),
        ('127.0.0.1', {'host': 'evil.com'}, False),  # a name that its owner lets lead to this machine
        ('127.0.0.1', {'host': '127.0.0.1.evil.com'}, False),
        ('127.0.0.1', {'host': ''}, False),
        ('127.0.0.1', {'host': '[::1'}, False),
        ('127.0.0.1', {'origin': 'http://evil.com'}, False),
        ('127.0.0.1', {'origin': 'null'}, False),
        ('0.0.0.0', {'host': 'gpu-server:8080'}, True),
        ('0.0.0.0', {'host': 'gpu-server:8080', 'origin': 'http://gpu-server:8080'}, True),
        ('0.0.0.0', {'host': 'gpu-server:8080', 'origin': 'http://evil.com'}, False),
    ],
)
def test_requests_come_from_here(kind: str, served: str, headers: dict, is_answered: bool) -> None:
    refused = 403 if kind == 'http' else 1008
    assert ask(served, kind=kind, **headers)[0] == (200 if is_answered else refused)


@pytest.mark.parametrize('length', [str(LARGEST_FILE + 2**17), '9' * 40, '-1', 'x'])
def test_what_says_that_it_is_too_large_is_not_read(length: str) -> None:
    assert ask(method='POST', parts=[b'x'], content_length=length) == (413, 0)


def test_what_gets_too_large_is_not_read_to_its_end() -> None:
    part = bytes(2**22)
    assert ask(method='POST', parts=[part] * 3) == (200, 3 * 2**22)
    status, number = ask(method='POST', parts=[part] * 100)
    assert status == 413 and LARGEST_FILE - 2**22 <= number <= LARGEST_FILE + 2**22


def test_a_body_that_never_ends_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr(guard, '_SLOWEST', 0.05)
    statuses = []

    async def app(scope, receive, send) -> None:
        await receive()

    async def receive() -> dict:
        await asyncio.sleep(60)
        return {}

    async def send(message) -> None:
        statuses.append(message.get('status'))

    scope = {'type': 'http', 'method': 'POST', 'headers': [(b'host', b'localhost')]}
    asyncio.run(Guard(app, '127.0.0.1')(scope, receive, send))
    assert statuses[0] == 408


def test_few_bodies_are_read_at_a_time() -> None:
    running, most = [], []

    async def app(scope, receive, send) -> None:
        running.append(1)
        most.append(len(running))
        await asyncio.sleep(0.01)
        running.pop()

    async def visit() -> None:
        limited = Guard(app, 'localhost')
        scope = {'type': 'http', 'method': 'POST', 'headers': [(b'host', b'localhost')]}
        await asyncio.gather(*(limited(scope, None, None) for _ in range(40)))

    asyncio.run(visit())
    assert len(most) == 40 and max(most) == guard._AT_A_TIME


def test_pictures_that_were_not_used_for_longest_go_first() -> None:
    held = HeldPictures(250)
    for page in 'ab':
        held.put(page, np.zeros(100, np.uint8))
    assert held.get('a') is not None
    held.put('c', np.zeros(100, np.uint8))
    assert held.get('b') is None and held.get('a') is not None and held.get('c') is not None
    held.put('d', np.zeros(1000, np.uint8))  # the newest stays
    assert held.get('d') is not None and held.get('a') is None and held.get('c') is None
    held.drop('d')
    assert held.get('d') is None
