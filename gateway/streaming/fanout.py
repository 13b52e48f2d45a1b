"""One consumer of all events for the whole gateway, fanned out to any number of clients."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.event_log import EventLog, Logged

log = logging.getLogger(__name__)


class StreamOver(Exception):
    """The stream cannot go on in this gateway, and its client may resume.

    The client's buffer is full, and it is dropped so that it delays nobody else; or the gateway stops; or the event log was
    created again.
    """


class Listener:
    """The live events of one topic for one client."""

    def __init__(self, buffer: int) -> None:
        self._events: asyncio.Queue[Logged | None] = asyncio.Queue(buffer)
        self._is_over = False

    def offer(self, logged: Logged) -> None:
        """Add an event, or end the stream where the client's buffer is full."""
        try:
            self._events.put_nowait(logged)
        except asyncio.QueueFull:
            self._is_over = True

    def end(self) -> None:
        """End the stream, and wake the task that waits for the next event."""
        self._is_over = True
        if not self._events.full():
            self._events.put_nowait(None)

    async def next(self, timeout_secs: float) -> Logged | None:
        """Return the next event, or None where there is none within `timeout_secs`. Raises StreamOver."""
        if self._is_over:
            raise StreamOver
        try:
            async with asyncio.timeout(timeout_secs):
                logged = await self._events.get()
        except TimeoutError:
            return None
        if logged is None:
            raise StreamOver
        return logged


class Fanout:
    """Follows the event log once, and hands each event to the listeners of its topic."""

    def __init__(self, log: EventLog, buffer: int) -> None:
        """`buffer` is how many events may wait for one client."""
        self._log, self._buffer = log, buffer
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._stopping = False
        self._newest = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the event log while the block runs. Raises Unavailable."""
        self._newest = await self._log.last_sequence()
        async with self._log.following(self._deliver):
            yield

    def end(self) -> None:
        """End all streams and all later ones, because the gateway stops. Its clients resume elsewhere."""
        self._stopping = True
        self._end_all()

    @asynccontextmanager
    async def listening(self, topic: str) -> AsyncIterator[Listener]:
        """Listen to a topic (schemas.subjects.topic) while the block runs."""
        listener = Listener(self._buffer)
        if self._stopping:
            listener.end()
        self._listeners[topic].add(listener)
        try:
            yield listener
        finally:
            self._listeners[topic].discard(listener)
            if not self._listeners[topic]:
                del self._listeners[topic]

    async def _deliver(self, logged: Logged) -> None:
        if logged.seq <= self._newest:
            # The log was created again or restored from a backup, so that the positions of clients mean nothing in it.
            log.warning("the event log went back from %d to %d", self._newest, logged.seq)
            self._end_all()
        self._newest = logged.seq
        for listener in self._listeners.get(logged.topic, ()):
            listener.offer(logged)

    def _end_all(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.end()
