"""Host names to addresses, each look-up in a thread of its own.

The loop's getaddrinfo is not used: uvloop runs it on libuv's four threads, of which two may look up names, so that two name
servers which do not answer would stop every other look-up, and a stuck thread keeps the process from ending. Here a name is
looked up once for all callers that ask meanwhile, the number of threads is limited, and no thread outlives the process.
"""

import asyncio
import socket
import threading
from collections.abc import Callable

AT_ONCE = 64
"""How many names are looked up at a time. A stuck one holds a thread while the resolver tries, often 10 to 30 s."""

Resolve = Callable[[str, int], list[str]]
"""From a host and a port to addresses. It may block. Raises OSError, UnicodeError."""


def system_resolver(host: str, port: int) -> list[str]:
    """Return the addresses that the system's resolver gives. Blocking. Raises OSError, UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Lookup:
    """Looks names up for the tasks of one loop."""

    def __init__(self, resolve: Resolve = system_resolver) -> None:
        self._resolve = resolve
        self._running: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host. Raises OSError, also where too many look-ups run, or where the host is no name."""
        asked = (host, port)
        if asked not in self._running:
            if len(self._running) >= AT_ONCE:
                raise OSError(f"{AT_ONCE} other names are being looked up")
            self._start(asked)
        # Shielded, because a caller that gives up must not take the answer from the others.
        return await asyncio.shield(self._running[asked])

    def _start(self, asked: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()
        # Where nobody waits any more, asyncio would otherwise log an exception that was never retrieved.
        answer.add_done_callback(lambda done: done.exception())
        self._running[asked] = answer

        def settle(found: list[str] | Exception) -> None:
            del self._running[asked]
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def work() -> None:
            found: list[str] | Exception
            try:
                found = self._resolve(*asked)
            except OSError as error:
                found = error
            except ValueError as error:
                # This includes UnicodeError: an empty label, one over 63 letters, a NUL.
                found = OSError(f"{error}")
            try:
                loop.call_soon_threadsafe(settle, found)
            except RuntimeError:
                # The loop has ended, and all callers with it.
                return

        threading.Thread(target=work, name=f"look up {asked[0][:64]}", daemon=True).start()
