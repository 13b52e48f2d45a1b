"""Follow a stream live and in order: a push consumer, and a watch over it.

nats-py's ordered consumer is not used: it polls for flow control requests four times a second, which an idle gateway should not
do, and it takes up to 20 s to notice that its consumer is gone after a restart of the server.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext as _Js
from nats.js.errors import NotFoundError

from broker.connection import reconnected
from broker.error_mapping import mapped_errors
from broker.errors import BrokerError
from process.background import run_in_background
from process.racing import unless
from process.retry import retry_forever

log = logging.getLogger(__name__)

CHECK_SECS = 20.0
"""How often the server is asked whether the consumer exists: in a cluster nothing else reports its loss."""


class Follower:
    """Calls `deliver` for each message that is stored from the start on, once and in order."""

    def __init__(
        self, js: JetStreamContext, stream: str, pattern: str, deliver: Callable[[Msg], Awaitable[None]]
    ) -> None:
        self._js, self._stream, self._pattern, self._deliver = js, stream, pattern, deliver
        self._created: datetime | None = None
        self._seen = 0
        """Stream sequence of the last delivered message."""
        self._received = 0
        """Consumer sequence of the last delivered message."""
        self._subscription: _Js.PushSubscription | None = None
        self._gap = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow while the block runs. Raises Unavailable at the start; a later loss of the connection leaves no gap."""
        self._created, self._seen = await self._look()
        await self._subscribe()
        try:
            async with run_in_background(self._mend(), name=f"follow {self._stream}"):
                yield
        finally:
            await self._unsubscribe()
            await asyncio.sleep(
                0
            )  # nats-py has only cancelled its reading task, which ends in the loop's next turn

    async def _mend(self) -> None:
        while True:
            await self._lost()
            await retry_forever(f"following {self._stream}", self._follow_again, retry_on=(BrokerError,))

    async def _follow_again(self) -> None:
        """Replace the consumer by a new one that begins behind the last message delivered. Raises BrokerError."""
        await self._unsubscribe()
        created, last = await self._look()
        # A server may have lost messages that it had not synced, and a stream that was created again is another one.
        self._created, self._seen = created, min(self._seen, last) if created == self._created else 0
        await self._subscribe()

    async def _lost(self) -> None:
        """Wait until the consumer is gone, or until a message of it is missing."""
        while True:
            try:
                async with asyncio.timeout(CHECK_SECS):
                    await unless(self._gap.wait(), reconnected(self._js))
                    return
            except TimeoutError:
                if not await self._is_whole():
                    return

    async def _is_whole(self) -> bool:
        """Whether the consumer exists and every message that it has sent has arrived, also the last one."""
        if self._subscription is None:
            return False
        try:
            with mapped_errors():
                try:
                    info = await self._js.consumer_info(self._stream, self._subscription._consumer)
                except NotFoundError:
                    return False
        except BrokerError as error:
            # The server is away, which the reconnect reports.
            log.info("%s: the consumer could not be looked at: %s", self._stream, error)
            return True
        return info.delivered is None or info.delivered.consumer_seq <= self._received

    async def _look(self) -> tuple[datetime | None, int]:
        """Return when the stream was created, and its last sequence."""
        with mapped_errors():
            info = await self._js.stream_info(self._stream)
        return info.created, int(info.state.last_seq)

    async def _subscribe(self) -> None:
        self._gap.clear()
        self._received = 0

        async def on_message(message: Msg) -> None:
            sequence = message.metadata.sequence
            # A message in between has not arrived.
            if sequence.consumer != self._received + 1:
                self._gap.set()
                return
            self._received += 1
            self._seen = sequence.stream
            await self._deliver(message)

        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._seen + 1,
            ack_policy=AckPolicy.NONE,
            max_deliver=1,
            mem_storage=True,
            num_replicas=1,
        )
        with mapped_errors():
            self._subscription = await self._js.subscribe(
                self._pattern, stream=self._stream, config=config, cb=on_message, manual_ack=True
            )

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with mapped_errors():
                await subscription.unsubscribe()
