"""nats-py's client, with what we need beside it.

This project leans on private names of nats-py, because it has no public ones for the same. tests/contract/test_nats_py.py lists
them, so that a release which changes them fails there.
"""

import asyncio

import nats.errors
from nats.aio.client import Client

HEADERS_FRAME_BYTES = len(b"NATS/1.0\r\n\r\n")
"""Bytes that headers have besides their names and values."""


class NatsClient(Client):
    """A client with an event for each reconnect, and with a check of the whole size of a message."""

    def __init__(self) -> None:
        super().__init__()
        self.reconnection = asyncio.Event()
        """Set at the next reconnect, and replaced by a new event then."""

    @property
    def may_have_jetstream(self) -> bool:
        """Whether there may be JetStream, by what the server says: in a cluster another server may have it."""
        return bool(self._server_info.get("jetstream") or self._server_info.get("cluster"))

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Publish a message. Raises MaxPayloadError also where its headers make it too large.

        nats-py checks the payload alone. The server counts the headers as well, and closes the connection of a client that sends
        more.
        """
        size = len(payload) + sum(
            len(f"{name}: {value}\r\n".encode()) for name, value in (headers or {}).items()
        )
        if headers and size + HEADERS_FRAME_BYTES > self.max_payload:
            raise nats.errors.MaxPayloadError
        await super().publish(subject, payload, reply, headers)

    def wake(self) -> None:
        """Wake the tasks that wait for this reconnect. Later ones wait for the next."""
        event, self.reconnection = self.reconnection, asyncio.Event()
        event.set()
