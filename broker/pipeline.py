"""Publish to a stream without waiting for each acknowledgement.

nats-py's publish_async is not used: an error that nats-server answers (no room, say) is raised in the callback that reads the
answer, and the future that stands for the acknowledgement is never settled (nats-py 2.16, `_handle_async_reply`): an upload into a
full store then stood still for 30 s.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError, NoStreamResponseError

from broker.connection import mapped_errors

NO_RESPONDERS = "503"


class Pipeline:
    """Messages on their way to a stream, in order, with their acknowledgements outstanding."""

    def __init__(self, client: Client, inbox: str, limit: int) -> None:
        """At most `limit` messages are unacknowledged at a time."""
        self._client, self._inbox, self._limit = client, inbox, limit
        self._in_flight: deque[asyncio.Future[None]] = deque()
        self._replies: dict[str, asyncio.Future[None]] = {}
        self._number = 0
        self._failure: Exception | None = None
        self._failed = asyncio.Event()
        self._acknowledged_before = 0

    async def publish(self, subject: str, body: bytes, ack_timeout_secs: float) -> None:
        """Raises what broker/verdict.py makes of a refusal, also of a message before; Unavailable."""
        self.check()
        self._number += 1
        reply = f"{self._inbox}.{self._number}"
        future = asyncio.get_running_loop().create_future()
        self._replies[reply] = future
        self._in_flight.append(future)
        with mapped_errors():
            await self._client.publish(subject, body, reply=reply)
        if len(self._in_flight) >= self._limit:
            await self._acknowledged(ack_timeout_secs)

    async def all_stored(self, ack_timeout_secs: float) -> None:
        """Wait for the acknowledgements that are outstanding. Raises as `publish` does."""
        while self._in_flight:
            await self._acknowledged(ack_timeout_secs)
        self.check()

    def check(self) -> None:
        """Raises what `publish` raises, where one of its messages was refused."""
        if self._failure is not None:
            with mapped_errors():
                raise self._failure

    async def fails_within(self, secs: float) -> bool:
        """Wait for the first refusal, for `secs` at the most; whether there is one."""
        try:
            async with asyncio.timeout(secs):
                await self._failed.wait()
        except TimeoutError:
            return False
        return True

    def stands_still(self) -> bool:
        """Whether something is on its way, and nothing was acknowledged since this was asked the last time."""
        acknowledged = self._number - len(self._replies)
        before, self._acknowledged_before = self._acknowledged_before, acknowledged
        return bool(self._replies) and acknowledged == before

    async def settled(self, timeout_secs: float) -> None:
        """Wait until nothing is on its way any more, for `timeout_secs` at the most, whatever became of it."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=timeout_secs)

    async def _acknowledged(self, timeout_secs: float) -> None:
        """Wait for the oldest."""
        with mapped_errors():
            async with asyncio.timeout(timeout_secs):
                await self._in_flight[0]
        self._in_flight.popleft()
        self.check()

    async def _on_reply(self, message: Msg) -> None:
        future = self._replies.pop(message.subject, None)
        if future is None or future.done():
            return
        try:
            _raise_for_refusal(message)
        except (APIError, NoStreamResponseError) as error:
            self._failure = self._failure or error
            self._failed.set()
        future.set_result(None)


def _raise_for_refusal(message: Msg) -> None:
    if message.headers and message.headers.get("Status") == NO_RESPONDERS:
        raise NoStreamResponseError
    answer = json.loads(message.data)
    if "error" in answer:
        APIError.from_error(answer["error"])


@asynccontextmanager
async def pipeline(client: Client, limit: int) -> AsyncIterator[Pipeline]:
    """A pipeline with an inbox of its own. Raises Unavailable."""
    pipe = Pipeline(client, client.new_inbox(), limit)
    with mapped_errors():
        subscription = await client.subscribe(f"{pipe._inbox}.*", cb=pipe._on_reply)
    try:
        yield pipe
    finally:
        with mapped_errors():
            await subscription.unsubscribe()
