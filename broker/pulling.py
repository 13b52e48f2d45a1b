"""Pull one message at a time from a durable consumer, without end, and lose none where the caller gives up.

It is written by hand because nats-py's `fetch` loses a message that arrives while its caller is cancelled or its inbox is closed, so
that the message waits for its ack deadline. Here a message is kept from the moment when it is read from the connection.
"""

import asyncio
import json
from collections import deque

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext

from broker.connection import reconnected
from broker.error_mapping import mapped_errors
from broker.errors import Unavailable
from process.racing import unless

PULL_TIMEOUT_SECS = 10.0
"""How long one pull request waits on the server; the next one follows at once.

A short time, because a request that was made before its consumer was paused is not served after the consumer is resumed."""
NOTHING_CAME = ("404", "408")
"""Statuses of a pull request that has ended without a message."""


class Puller:
    """Pulls from one consumer, for one task."""

    def __init__(self, js: JetStreamContext, stream: str, consumer: str) -> None:
        self._js = js
        self._subject = f"{js._prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox: Subscription | None = None
        self._arrived: deque[Msg] = deque()
        """Messages that no caller has got yet."""
        self._ended: str | None = None
        """How the server has ended the open request: a status and its text."""
        self._news = asyncio.Event()

    async def next(self) -> Msg:
        """Wait for a message, without a limit. Raises Unavailable when the server is gone."""
        while not self._arrived:
            # A pull request dies with its connection, and nothing reports that: after a reconnect a new one is needed.
            if await unless(self._ask(), reconnected(self._js)) is None:
                await self.leave()
        return self._arrived.popleft()

    async def leave(self) -> None:
        """End the open pull request, together with its inbox. A later `next` pulls again.

        Messages that were on their way are kept for `take_late`, or for the next `next`. Raises Unavailable.
        """
        inbox, self._inbox = self._inbox, None
        if inbox is None:
            return
        client = self._js._nc
        try:
            with mapped_errors():
                # Not unsubscribe() alone: it forgets the inbox in this process first, and with it messages on their way.
                if not client.is_reconnecting:
                    await client._send_unsubscribe(inbox._id)
                    # The answer to this comes behind everything that was sent to the inbox.
                    await client.flush()
        finally:
            while not inbox._pending_queue.empty():
                await self._on_message(inbox._pending_queue.get_nowait())
            with mapped_errors():
                await inbox.unsubscribe()

    def take_late(self) -> list[Msg]:
        """Return the messages that no caller has got. The caller must settle them."""
        late = list(self._arrived)
        self._arrived.clear()
        return late

    async def _ask(self) -> bool:
        """Make pull requests until a message has arrived. Raises Unavailable."""
        client = self._js._nc
        while not self._arrived:
            self._news.clear()
            self._ended = None
            with mapped_errors():
                if self._inbox is None:
                    self._inbox = await client.subscribe(client.new_inbox(), cb=self._on_message)
                request = {"batch": 1, "expires": int(PULL_TIMEOUT_SECS * 1e9)}
                await client.publish(self._subject, json.dumps(request).encode(), self._inbox.subject)
            try:
                async with asyncio.timeout(PULL_TIMEOUT_SECS + 1):
                    await self._news.wait()
            except TimeoutError:
                continue
            if self._ended is not None and not self._ended.startswith(NOTHING_CAME):
                raise Unavailable(f"{self._subject}: {self._ended}")
        return True

    async def _on_message(self, message: Msg) -> None:
        """Keep a message. Nothing is awaited here, so that it is kept in the same turn of the loop in which it was read."""
        if JetStreamContext.is_status_msg(message):
            headers = message.headers or {}
            self._ended = f"{headers.get('Status')} {headers.get('Description', '')}".strip()
        else:
            self._arrived.append(message)
        self._news.set()
