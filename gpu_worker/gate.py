"""Open or closed, and both can be waited for."""

import asyncio


class Gate:
    def __init__(self, *, is_open: bool = True) -> None:
        self._opened, self._closed = asyncio.Event(), asyncio.Event()
        (self.open if is_open else self.close)()

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    def open(self) -> None:
        self._opened.set()
        self._closed.clear()

    def close(self) -> None:
        self._closed.set()
        self._opened.clear()

    async def wait_open(self) -> None:
        await self._opened.wait()

    async def wait_closed(self) -> None:
        await self._closed.wait()
