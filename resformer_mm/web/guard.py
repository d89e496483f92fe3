"""Limits of the requests to the page: their size, their number at a time, and where they come from."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
LOCAL_NAMES = ('localhost', '127.0.0.1', '::1')
LARGEST_FILE = 64 * 1024**2
"""Bytes of an image."""
_LARGEST_BODY = LARGEST_FILE + 2**16  # with the names around the file
_AT_A_TIME = 8
_SLOWEST = 60.0  # seconds


class Guard:
    """An ASGI application before another one.

    A request that is larger than an image may be, is not read. So many are read at a time, and each for a
    minute at most. If the page is served to this machine alone, requests that name another host are refused:
    otherwise a web page of a stranger, whose name leads to this machine, could use it. So are those of web
    pages of other origins.

    Args:
        app: the application.
        host: address that it listens on.
    """

    def __init__(self, app: Callable, host: str) -> None:
        self.app = app
        self._names = {*LOCAL_NAMES, host.lower()} if is_local(host) else None
        self._reading = asyncio.Semaphore(_AT_A_TIME)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or a connection of a web socket."""
        if scope['type'] not in ('http', 'websocket'):
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode('latin1') for name, value in scope.get('headers', ())}
        if not self._comes_from_here(headers):
            await _refuse(scope, send, 403, 'the page is for this machine, and for no other web page')
        elif scope['type'] == 'websocket' or scope['method'] in ('GET', 'HEAD'):
            await self.app(scope, receive, send)
        elif _length(headers) > _LARGEST_BODY:
            await _refuse(scope, send, 413, f'a file must have at most {LARGEST_FILE // 1024**2} MB')
        else:
            async with self._reading:
                await self._read(scope, receive, send)

    def _comes_from_here(self, headers: dict[bytes, str]) -> bool:
        host = _host_name(f'//{headers.get(b"host", "")}')
        if self._names is not None and host not in self._names:
            return False
        origin = headers.get(b'origin')
        return origin is None or _host_name(origin) == host

    async def _read(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let the application read at most an image, in limited time."""
        seen, started = 0, False

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get('body', b''))
            if seen > _LARGEST_BODY:
                raise _TooLargeError
            return message

        async def noticed(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        status, reason = 413, f'a file must have at most {LARGEST_FILE // 1024**2} MB'
        try:
            await asyncio.wait_for(self.app(scope, limited, noticed), _SLOWEST)
        except _TooLargeError:
            pass
        except asyncio.TimeoutError:
            status, reason = 408, 'the file was sent too slowly'
        else:
            return
        if not started:
            await _refuse(scope, send, status, reason)


class _TooLargeError(Exception):
    """A body that is larger than its length said."""


def is_local(host: str) -> bool:
    """Whether an address is of this machine alone."""
    if host.lower() in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _length(headers: dict[bytes, str]) -> int:
    text = headers.get(b'content-length', '0')
    return int(text) if text.isdecimal() and len(text) < 20 else _LARGEST_BODY + 1


async def _refuse(scope: Message, send: Send, status: int, reason: str) -> None:
    if scope['type'] == 'websocket':
        await send({'type': 'websocket.close', 'code': 1008, 'reason': reason})
        return
    headers = [(b'content-type', b'text/plain; charset=utf-8'), (b'connection', b'close')]
    await send({'type': 'http.response.start', 'status': status, 'headers': headers})
    await send({'type': 'http.response.body', 'body': reason.encode()})
