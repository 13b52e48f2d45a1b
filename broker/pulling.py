"""Pull one message at a time from a durable consumer, without end, and lose none when nobody wants it any more.

By hand, because nats-py's `fetch` loses a message that arrives as its caller is cancelled, or its inbox is closed: the message
then waits for its ack deadline. Here it is kept from the moment it is read from the connection.
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
"""How long one pull request waits on the server; the next follows at once. One that was made before its consumer was
paused is not served when it is resumed."""
NOTHING_CAME = ("404", "408")
"""Statuses of a pull request that has ended without a message."""


class Puller:
    def __init__(self, js: JetStreamContext, stream: str, consumer: str) -> None:
        self._js = js
        self._subject = f"{js._prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox: Subscription | None = None
        self._arrived: deque[Msg] = deque()
        """Not given to anybody yet."""
        self._ended: str | None = None
        """How the server has ended the open request: a status and its words."""
        self._news = asyncio.Event()

    async def next(self) -> Msg:
        """Wait, without end, for a message. Raises Unavailable when the server is gone."""
        while not self._arrived:
            # A pull request dies with its connection, and nobody says so: after a reconnect a new one is needed.
            if await unless(self._ask(), reconnected(self._js)) is None:
                await self.leave()
        return self._arrived.popleft()

    async def leave(self) -> None:
        """Take no more: the server forgets an open pull request together with its inbox. `next` comes back.

        What was on its way is kept for `take_late`, or for the next `next`. Raises Unavailable.
        """
        inbox, self._inbox = self._inbox, None
        if inbox is None:
            return
        client = self._js._nc
        try:
            with mapped_errors():
                # Not unsubscribe() alone: it forgets the inbox here first, and with it what is on its way.
                if not client.is_reconnecting:
                    await client._send_unsubscribe(inbox._id)
                    await client.flush()  # its answer comes behind everything that was sent to this inbox
        finally:
            while not inbox._pending_queue.empty():
                await self._on_message(inbox._pending_queue.get_nowait())
            with mapped_errors():
                await inbox.unsubscribe()

    def take_late(self) -> list[Msg]:
        """What was pulled and given to nobody: the caller must settle it."""
        late = list(self._arrived)
        self._arrived.clear()
        return late

    async def _ask(self) -> bool:
        """Make pull requests until something has arrived. Raises Unavailable."""
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
        """Nothing is awaited here: a message that was read is kept in the same turn."""
        if JetStreamContext.is_status_msg(message):
            headers = message.headers or {}
            self._ended = f"{headers.get('Status')} {headers.get('Description', '')}".strip()
        else:
            self._arrived.append(message)
        self._news.set()
