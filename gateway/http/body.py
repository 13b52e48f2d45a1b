"""A request body with back-pressure.

Quart's own body reads the socket as fast as it can, whatever the handler does. With a slow store the process then grew by 600 to
790 MiB during an upload of 512 MiB, under every server that was measured (docs/adr/0005).
"""

import asyncio
import logging
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, HTTPResponseBodyEvent
from hypercorn.utils import UnexpectedMessageError
from quart import Request
from quart.asgi import ASGIHTTPConnection
from quart.wrappers.request import Body

from gateway.http.continuing import EXTENSION

log = logging.getLogger(__name__)

HIGH_WATER_BYTES = 256 * 1024
"""How much is read from the client before the handler has taken it."""
LINGER_SECS = 3.0
"""How long the rest of a refused upload is still read, and thrown away."""


class PacedBody(Body):
    """Tells the connection when it has room, and gives up on a client that sends nothing for `idle_timeout_secs`."""

    idle_timeout_secs = 60.0

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._room = asyncio.Event()
        self._room.set()

        self._discarding, self.arrived = False, asyncio.Event()
        self.wanted = asyncio.Event()
        """Set when the handler begins to read."""

    def append(self, data: bytes) -> None:
        """Take a piece from the connection."""
        if self._discarding:
            return
        super().append(data)
        if len(self._data) > HIGH_WATER_BYTES:
            self._room.clear()

    async def __anext__(self) -> bytes:
        """Return the next piece. Raises TimeoutError, StopAsyncIteration."""
        self.wanted.set()
        async with asyncio.timeout(self.idle_timeout_secs):
            data = await super().__anext__()
        self._room.set()
        return data

    def __await__(self) -> Generator[Any, None, Any]:
        self.wanted.set()
        return super().__await__()

    def set_complete(self) -> None:
        """The connection has read the whole body."""
        super().set_complete()
        self.arrived.set()

    def discard(self) -> None:
        """Throw away what still arrives, because nobody reads it any more."""
        self._discarding = True
        self._data.clear()
        self._room.set()

    async def has_room(self) -> None:
        """Wait until the handler has taken what was read."""
        await self._room.wait()


class PacedRequest(Request):
    """A request with such a body."""

    body_class = PacedBody
    body: PacedBody


class PacedConnection(ASGIHTTPConnection):
    """A connection that reads on only when the body has room, and that leaves no handler running."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one request. A caller that cancels this waits for the clean-up of the handler.

        Quart's own method leaves the handler running then. At the end of a gateway it was cancelled when the connection to
        nats-server was gone already, and the stored part of an upload stayed.
        """
        request = self._create_request_from_scope(send)
        handling = asyncio.ensure_future(self.handle_request(request, send))
        receiving = asyncio.ensure_future(self.handle_messages(request, receive))
        try:
            await asyncio.wait([handling, receiving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Either the client is gone, or the gateway stops.
            is_gone = not handling.done()
            handling.cancel()
            receiving.cancel()
            await asyncio.wait([handling, receiving])
        for task in (handling, receiving):
            if not task.cancelled() and (error := task.exception()) is not None:
                if is_gone and isinstance(error, UnexpectedMessageError):
                    log.debug("an answer comes too late: %s", error)
                else:
                    raise error

    async def handle_messages(self, request: Request, receive: ASGIReceiveCallable) -> None:
        """Read the body as far as it has room, until the client is gone. One that waits is not told to go on before that."""
        if self._client_waits() and isinstance(request.body, PacedBody):
            await request.body.wanted.wait()
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

    def _client_waits(self) -> bool:
        """Whether the client waits for `100 Continue`. Always false where another server than ours runs the application."""
        server = (self.scope.get("extensions") or {}).get(EXTENSION)
        return server is not None and bool(server["is_waiting"]())

    async def handle_request(self, request: Request, send: ASGISendCallable) -> None:
        """Answer the request, also where its body has not been read to the end.

        The rest of the body is read for a while and thrown away: closing the connection under a client that still writes
        resets it, and many clients read the answer only after they have written everything. A client that has waited to be told
        to go on has written nothing.
        """
        waits = False

        async def lingering(message: ASGISendEvent) -> None:
            nonlocal waits
            body = request.body
            if message["type"] == "http.response.start":
                waits = self._client_waits()
            if (
                waits
                or message["type"] != "http.response.body"
                or message.get("more_body", False)
                or not isinstance(body, PacedBody)
                or body.arrived.is_set()
            ):
                await send(message)
                return
            await send(HTTPResponseBodyEvent(type="http.response.body", body=message["body"], more_body=True))
            body.discard()
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECS):
                    await body.arrived.wait()
            await send(HTTPResponseBodyEvent(type="http.response.body", body=b"", more_body=False))

        await super().handle_request(request, lingering)
