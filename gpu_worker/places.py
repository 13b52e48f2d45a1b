"""The places of the jobs in a worker's hands: one for the engine and one for the next, and a few aside for jobs that take long.

A job holds a place from its delivery to the end of its work on the engine. One whose preparation takes long steps aside, so that the
jobs behind it are prepared and transcribed meanwhile.
"""

import asyncio

IN_HAND = 2
"""One job on the engine and one that is prepared."""
SLOW_SECS = 5.0
"""A preparation that takes longer is a slow one: an hour of MP3 is decoded in about this time."""
SLOW_JOBS = 4
"""How many may be aside. While there are so many, a further slow job keeps its place."""


class Places:
    """Counts the places. Used by tasks of one loop."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(IN_HAND)
        self._aside = asyncio.Semaphore(SLOW_JOBS)
        self._keys: set[str] = set()
        """Of the jobs that are aside."""

    async def take(self) -> None:
        """Wait for a place for one more job. Endless."""
        await self._places.acquire()

    def free(self) -> None:
        """Give the place of a job to the next one."""
        self._places.release()

    async def until_done_or_aside(self, key: str, preparing: "asyncio.Task[None]") -> None:
        """Wait until a job is prepared, or has stepped aside because that takes long."""
        await asyncio.wait([preparing], timeout=SLOW_SECS)
        if preparing.done():
            return
        asking = asyncio.ensure_future(self._aside.acquire())
        try:
            await asyncio.wait([preparing, asking], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stepped = asking.done() and not asking.cancelled()
            asking.cancel()
        if not stepped:
            return
        if preparing.done():
            self._aside.release()
            return
        self._keys.add(key)
        self._places.release()

    async def back(self, key: str) -> None:
        """Take a place again for a job that is prepared, where it had stepped aside. Endless."""
        if key in self._keys:
            self._keys.discard(key)
            self._aside.release()
            await self._places.acquire()
