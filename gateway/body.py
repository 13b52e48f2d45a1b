"""A request body with back-pressure. Quart's own reads the socket as fast as it can, whatever the reader does:
a slow sink then grew the process by 600-790 MiB on a 512 MiB upload, under every server measured (docs/adr/0005).
"""

import asyncio

from hypercorn.typing import ASGIReceiveCallable
from quart import Request
from quart.asgi import ASGIHTTPConnection
from quart.wrappers.request import Body

HIGH_WATER_BYTES = 256 * 1024
"""More than this is not read from the client before the handler has taken it."""


class PacedBody(Body):
    """Tells the connection when it has room, and gives up a client that sends nothing for `idle_timeout_secs`."""

    idle_timeout_secs = 60.0

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._room = asyncio.Event()
        self._room.set()

    def append(self, data: bytes) -> None:
        super().append(data)
        if len(self._data) > HIGH_WATER_BYTES:
            self._room.clear()

    async def __anext__(self) -> bytes:
        """The next piece. Raises TimeoutError, StopAsyncIteration."""
        async with asyncio.timeout(self.idle_timeout_secs):
            data = await super().__anext__()
        self._room.set()
        return data

    async def has_room(self) -> None:
        await self._room.wait()


class PacedRequest(Request):
    body_class = PacedBody
    body: PacedBody


class PacedConnection(ASGIHTTPConnection):
    """Reads the next message only when the body has room for it."""

    async def handle_messages(self, request: Request, receive: ASGIReceiveCallable) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.request":
                request.body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    request.body.set_complete()
                elif isinstance(request.body, PacedBody):
                    await request.body.has_room()
            elif message["type"] == "http.disconnect":
                return
