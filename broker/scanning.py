"""Reads the messages of a stream in batches of direct gets (NATS ADR-31).

No consumer is created, so that a thousand readers leave nothing behind. The stream must allow direct gets.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime

import msgspec
from nats.js import JetStreamContext

from broker.error_mapping import mapped_errors
from broker.errors import Unavailable

BATCH = 256
"""Messages per request: enough to make round trips cheap, little enough to bound memory."""
TIMEOUT_SECS = 10.0
"""Timeout of one batch."""
END_OF_BATCH, NOT_FOUND = "204", "404"
"""Statuses of the last message of a batch, and of the answer where nothing matches."""
PENDING = "Nats-Num-Pending"
"""Header of the end of a batch: how many matching messages follow."""
KV_OPERATION = "KV-Operation"
"""Header of a message that marks the removal of a key."""


class Stored(msgspec.Struct, kw_only=True, frozen=True):
    """A message as it is stored."""

    seq: int
    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def time(self) -> datetime:
        """When it was stored."""
        return datetime.fromisoformat(self.headers["Nats-Time-Stamp"])


async def scan(js: JetStreamContext, stream: str, pattern: str, after: int = 0) -> AsyncIterator[Stored]:
    """Yield the messages on matching subjects with a sequence above `after`, in order, without removed keys.

    Raises Unavailable.
    """
    while True:
        batch, pending = await _batch(js, stream, pattern, after + 1)
        for stored in batch:
            if KV_OPERATION not in stored.headers:
                yield stored
        if not batch or not pending:
            return
        after = batch[-1].seq


async def _batch(js: JetStreamContext, stream: str, pattern: str, start: int) -> tuple[list[Stored], int]:
    """Return one batch, and how many matching messages follow it.

    A batch ends at BATCH messages or at the server's limit of bytes, whichever comes first.
    """
    client = js._nc
    inbox = client.new_inbox()
    request = json.dumps({"seq": start, "next_by_subj": pattern, "batch": BATCH}).encode()
    found: list[Stored] = []
    with mapped_errors():
        sub = await client.subscribe(inbox)
        try:
            await client.publish(f"$JS.API.DIRECT.GET.{stream}", request, reply=inbox)
            async with asyncio.timeout(TIMEOUT_SECS):
                while True:
                    message = await sub.next_msg(timeout=TIMEOUT_SECS)
                    headers = message.headers or {}
                    status = headers.get("Status")
                    if status == NOT_FOUND:
                        return found, 0
                    if status == END_OF_BATCH:
                        return found, int(headers.get(PENDING, "0"))
                    if status is not None:
                        raise Unavailable(f"{stream} {pattern}: {status} {headers.get('Description')}")
                    found.append(
                        Stored(
                            seq=int(headers["Nats-Sequence"]),
                            subject=headers["Nats-Subject"],
                            headers=headers,
                            body=message.data,
                        )
                    )
        finally:
            await sub.unsubscribe()
