"""One ordered consumer for the whole gateway, fanned out to however many clients."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.event_log import EventLog, Logged

log = logging.getLogger(__name__)


class StreamOver(Exception):
    """The stream cannot go on here, and its client may resume: its buffer is full and it is dropped, so that it costs the
    others nothing; or the gateway stops; or the log begins anew."""


class Listener:
    """One client's live events of one topic."""

    def __init__(self, buffer: int) -> None:
        self._events: asyncio.Queue[Logged | None] = asyncio.Queue(buffer)
        self._is_over = False

    def offer(self, logged: Logged) -> None:
        try:
            self._events.put_nowait(logged)
        except asyncio.QueueFull:
            self._is_over = True

    def end(self) -> None:
        """Wake whoever waits: there will be no more."""
        self._is_over = True
        if not self._events.full():
            self._events.put_nowait(None)

    async def next(self, timeout_secs: float) -> Logged | None:
        """The next event; None when there is none in time. Raises StreamOver."""
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
    def __init__(self, log: EventLog, buffer: int) -> None:
        self._log, self._buffer = log, buffer
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._stopping = False
        self._newest = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the event log while inside. Raises Unavailable."""
        self._newest = await self._log.last_sequence()
        async with self._log.following(self._deliver):
            yield

    def end(self) -> None:
        """End all streams, and those that are still asked for: the gateway stops, and its clients go on elsewhere."""
        self._stopping = True
        self._end_all()

    @asynccontextmanager
    async def listening(self, topic: str) -> AsyncIterator[Listener]:
        """Everything that happens on a topic (schemas.subjects.topic) from now on."""
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
            # The log was made anew, or restored from a backup: what clients have seen is no place in it.
            log.warning("the event log went back from %d to %d", self._newest, logged.seq)
            self._end_all()
        self._newest = logged.seq
        for listener in self._listeners.get(logged.topic, ()):
            listener.offer(logged)

    def _end_all(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.end()
