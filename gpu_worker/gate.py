"""A gate that is open or closed, where both can be waited for."""

import asyncio


class Gate:
    """Two events that are never both set. Used by tasks of one loop."""

    def __init__(self, *, is_open: bool = True) -> None:
        self._opened, self._closed = asyncio.Event(), asyncio.Event()
        (self.open if is_open else self.close)()

    @property
    def is_open(self) -> bool:
        """Whether the gate is open now."""
        return self._opened.is_set()

    def open(self) -> None:
        """Open the gate. Idempotent."""
        self._opened.set()
        self._closed.clear()

    def close(self) -> None:
        """Close the gate. Idempotent."""
        self._closed.set()
        self._opened.clear()

    async def wait_open(self) -> None:
        """Return when the gate is open, at once where it is."""
        await self._opened.wait()

    async def wait_closed(self) -> None:
        """Return when the gate is closed, at once where it is."""
        await self._closed.wait()
