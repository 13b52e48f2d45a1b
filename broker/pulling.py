"""Pull one message at a time from a durable consumer, without end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.client import JetStreamContext as _Js

from broker.connection import mapped_errors, reconnected

PULL_TIMEOUT_SECS = 10.0
"""How long one pull request waits on the server; the next follows at once. One that was made before its consumer was
paused is not served when it is resumed."""

T = TypeVar("T")


class Puller:
    def __init__(self, js: JetStreamContext, stream: str, consumer: str) -> None:
        self._js, self._stream, self._consumer = js, stream, consumer
        self._pull: _Js.PullSubscription | None = None
        self._late: list[Msg] = []
        """Pulled, and given to nobody: whoever asked was cancelled in the same turn, or the pull was closed."""

    async def next(self) -> Msg:
        """Wait, without end, for a message. Raises Unavailable when the server is gone."""
        while not self._late:
            # A pull request dies with its connection, and nobody says so: after a reconnect a new one is needed.
            message = await unless(self._fetch(), reconnected(self._js), self._late.append)
            if message is not None:
                return message
            await self.leave()
        return self._late.pop(0)

    async def leave(self) -> None:
        """Take no more: the server forgets an open pull request together with its inbox. `next` comes back.

        What was on its way is kept for `take_late`, or for the next `next`. Raises Unavailable.
        """
        pull, self._pull = self._pull, None
        if pull is None:
            return
        client, sub = self._js._nc, pull._sub
        try:
            with mapped_errors():
                # Not unsubscribe() alone: it forgets the subscription here first, and with it what is on its way.
                if not client.is_reconnecting:
                    await client._send_unsubscribe(sub._id)
                    await client.flush()  # its answer comes behind everything that was sent to this inbox
        finally:
            while not sub._pending_queue.empty():
                message = sub._pending_queue.get_nowait()
                if not JetStreamContext.is_status_msg(message):
                    self._late.append(message)
            with mapped_errors():
                await pull.unsubscribe()

    def take_late(self) -> list[Msg]:
        """What was pulled and given to nobody: the caller must settle it."""
        late, self._late = self._late, []
        return late

    async def _fetch(self) -> Msg:
        while True:
            # In the loop, so that a cancellation which nats-py turns into a timeout ends it all the same.
            with mapped_errors():
                if self._pull is None:
                    self._pull = await self._js.pull_subscribe_bind(
                        consumer=self._consumer, stream=self._stream
                    )
                try:
                    [message] = await self._pull.fetch(1, timeout=PULL_TIMEOUT_SECS)
                except nats.errors.TimeoutError:
                    continue
            return message


async def unless(
    work: Coroutine[Any, Any, T],
    event: Coroutine[Any, Any, object],
    late: Callable[[T], object] | None = None,
) -> T | None:
    """The result of `work`; None where `event` comes first. Whichever is left is cancelled.

    A result that comes together with the cancellation is not lost; one that comes when the caller itself is cancelled is
    given to `late`.
    """
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event)
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        if late is not None:
            working.add_done_callback(lambda task: _keep(task, late))
        raise
    finally:
        for task in (working, waiting):
            task.cancel()
        await asyncio.wait([working, waiting])
    return None if working.cancelled() else working.result()


def _keep(task: "asyncio.Future[T]", late: Callable[[T], object]) -> None:
    if not task.cancelled() and task.exception() is None:
        late(task.result())
