"""Publish to a stream without waiting for each acknowledgement.

nats-py's publish_async is not used: an error that nats-server answers (no room, say) is raised in the callback that reads the
answer, and the future that stands for the acknowledgement is never settled (nats-py 2.16, `_handle_async_reply`): an upload into a
full store then stood still for 30 s.
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
SILENCE_SECS = 0.5
"""Without an acknowledgement for so long the server is asked whether it can store anything."""


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

    @asynccontextmanager
    async def watched(self, probe: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Stop what is done inside, also a wait for the client's next piece, as soon as it is in vain; raises why.

        `probe` raises what is wrong with the stream. It is asked where no acknowledgement comes: a server whose disk is full
        refuses nothing, it is silent.
        """
        failure: BrokerError | None = None
        try:
            async with asyncio.timeout(None) as scope:

                async def watch() -> None:
                    nonlocal failure
                    failure = await self._failure_to_come(probe)
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

    async def _failure_to_come(self, probe: Callable[[], Awaitable[None]]) -> BrokerError:
        reconnects = self._client.stats["reconnects"]
        while not await self._fails_within(SILENCE_SECS):
            if not self._stands_still():
                continue
            if self._client.stats["reconnects"] != reconnects:
                return Unavailable("the connection was lost, and messages on their way with it")
            try:
                await probe()
            except Unavailable as error:  # it may come back; whoever waits for acknowledgements has a timeout
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
        """Wait for the first refusal, for `secs` at the most; whether there is one."""
        try:
            async with asyncio.timeout(secs):
                await self._failed.wait()
        except TimeoutError:
            return False
        return True

    def _stands_still(self) -> bool:
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
