"""nats-py's client as it is used here."""

import asyncio

import nats.errors
from nats.aio.client import Client

HEADERS_FRAME_BYTES = len(b"NATS/1.0\r\n\r\n")


class NatsClient(Client):
    """nats-py's client, with an event for each reconnect, and a check of a message's whole size."""

    def __init__(self) -> None:
        super().__init__()
        self.reconnection = asyncio.Event()

    @property
    def may_have_jetstream(self) -> bool:
        """By what the server says of itself; in a cluster it may be another server that has it."""
        return bool(self._server_info.get("jetstream") or self._server_info.get("cluster"))

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Raises MaxPayloadError also where the headers make a message too large.

        nats-py looks at the payload alone. The server counts the headers, and closes the connection of whoever sends more.
        """
        size = len(payload) + sum(
            len(f"{name}: {value}\r\n".encode()) for name, value in (headers or {}).items()
        )
        if headers and size + HEADERS_FRAME_BYTES > self.max_payload:
            raise nats.errors.MaxPayloadError
        await super().publish(subject, payload, reply, headers)

    def wake(self) -> None:
        """Let those go on that wait for this reconnect; later ones wait for the next."""
        event, self.reconnection = self.reconnection, asyncio.Event()
        event.set()
