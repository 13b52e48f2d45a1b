"""Publishes to a stream without waiting for each acknowledgement.

nats-py's publish_async is not used: an error in nats-server's answer, such as no room, is raised in the callback that reads the answer,
and the future of the acknowledgement is never settled (nats-py 2.16, `_handle_async_reply`). An upload into a full store then stood
still for 30 s.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError, NoStreamResponseError

from broker.error_mapping import mapped_errors
from broker.errors import BrokerError, Unavailable

log = logging.getLogger(__name__)

NO_RESPONDERS = "503"
"""Status of an answer where no server has the stream."""
SILENCE_SECS = 0.5
"""After this time without an acknowledgement the server is asked whether it can store anything."""


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
        """Publish a message. Raises the error of a refusal, also of an earlier message; Unavailable."""
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
        """Wait for the outstanding acknowledgements. Raises as `publish` does."""
        while self._in_flight:
            await self._acknowledged(ack_timeout_secs)
        self.check()

    def check(self) -> None:
        """Raise as `publish` does, where a message was refused."""
        if self._failure is not None:
            with mapped_errors():
                raise self._failure

    @asynccontextmanager
    async def watched(self, probe: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Stop the block, also a wait for the client's next piece, as soon as publishing has failed. Raises the error.

        `probe` raises what is wrong with the stream. It is called where acknowledgements are missing, because a server whose
        disk is full refuses nothing, but is silent.
        """
        failure: BrokerError | None = None
        try:
            async with asyncio.timeout(None) as scope:

                async def watch() -> None:
                    nonlocal failure
                    failure = await self._wait_for_failure(probe)
                    scope.reschedule(asyncio.get_running_loop().time())

                watching = asyncio.create_task(watch(), name="watch for refused messages")
                try:
                    yield
                finally:
                    watching.cancel()
                    await asyncio.wait([watching])
        except TimeoutError:
            if failure is None:
                raise
            raise failure from None

    async def _wait_for_failure(self, probe: Callable[[], Awaitable[None]]) -> BrokerError:
        reconnects = self._client.stats["reconnects"]
        while not await self._fails_within(SILENCE_SECS):
            if not self._stands_still():
                continue
            if self._client.stats["reconnects"] != reconnects:
                return Unavailable("the connection was lost, and messages on their way with it")
            try:
                await probe()
            except Unavailable as error:
                # The server may come back, and the wait for acknowledgements has a timeout of its own.
                log.info("an upload stands still: %s", error)
            except BrokerError as error:
                return error
        return self._refusal()

    def _refusal(self) -> BrokerError:
        try:
            self.check()
        except BrokerError as error:
            return error
        raise RuntimeError("no message was refused")

    async def _fails_within(self, secs: float) -> bool:
        """Whether a message is refused within `secs`."""
        try:
            async with asyncio.timeout(secs):
                await self._failed.wait()
        except TimeoutError:
            return False
        return True

    def _stands_still(self) -> bool:
        """Whether messages are on their way, and none was acknowledged since the last call."""
        acknowledged = self._number - len(self._replies)
        before, self._acknowledged_before = self._acknowledged_before, acknowledged
        return bool(self._replies) and acknowledged == before

    async def settled(self, timeout_secs: float) -> None:
        """Wait until every message is answered, for `timeout_secs` at the most, whatever the answers are."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=timeout_secs)

    async def _acknowledged(self, timeout_secs: float) -> None:
        """Wait for the oldest acknowledgement."""
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
    """Open a pipeline with an inbox of its own, for `limit` unacknowledged messages. Raises Unavailable."""
    pipe = Pipeline(client, client.new_inbox(), limit)
    with mapped_errors():
        subscription = await client.subscribe(f"{pipe._inbox}.*", cb=pipe._on_reply)
    try:
        yield pipe
    finally:
        with mapped_errors():
            await subscription.unsubscribe()
