"""One ordered consumer for the whole gateway, fanned out to however many clients."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.event_log import EventLog, Logged


class ClientTooSlow(Exception):
    """Its buffer is full: it is dropped, so that it costs the others nothing."""


class Listener:
    """One client's live events of one job."""

    def __init__(self, buffer: int) -> None:
        self._events: asyncio.Queue[Logged] = asyncio.Queue(buffer)
        self._overflown = False

    def offer(self, logged: Logged) -> None:
        try:
            self._events.put_nowait(logged)
        except asyncio.QueueFull:
            self._overflown = True

    async def next(self, timeout_secs: float) -> Logged | None:
        """The next event; None when there is none in time. Raises ClientTooSlow."""
        if self._overflown:
            raise ClientTooSlow
        try:
            async with asyncio.timeout(timeout_secs):
                return await self._events.get()
        except TimeoutError:
            return None


class Fanout:
    def __init__(self, log: EventLog, buffer: int) -> None:
        self._log, self._buffer = log, buffer
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the event log while inside. Raises Unavailable."""
        sub = await self._log.follow(self._deliver)
        try:
            yield
        finally:
            await sub.unsubscribe()

    @asynccontextmanager
    async def listening(self, job_id: str) -> AsyncIterator[Listener]:
        """Everything that happens to the job from now on."""
        listener = Listener(self._buffer)
        self._listeners[job_id].add(listener)
        try:
            yield listener
        finally:
            self._listeners[job_id].discard(listener)
            if not self._listeners[job_id]:
                del self._listeners[job_id]

    async def _deliver(self, logged: Logged) -> None:
        for listener in self._listeners.get(logged.job_id, ()):
            listener.offer(logged)
