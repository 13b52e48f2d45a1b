"""Names to addresses, each look-up in a thread of its own.

Not the loop's getaddrinfo: uvloop runs it on libuv's four threads, of which two may look up names, so two name servers that
do not answer would stop every other look-up, and a stuck one keeps the process from ending. Here a name is looked up once for
all that ask for it meanwhile, the number of threads has a limit, and no thread outlives the process.
"""

import asyncio
import socket
import threading
from collections.abc import Callable

AT_ONCE = 64
"""Names. Each stuck one holds a small thread for as long as the system's resolver tries, often 10 to 30 s."""

Resolve = Callable[[str, int], list[str]]
"""A host and a port to addresses; may block. Raises OSError, UnicodeError."""


def system_resolver(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Lookup:
    def __init__(self, resolve: Resolve = system_resolver) -> None:
        self._resolve = resolve
        self._running: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """Raises OSError, also where too many names are being looked up or the host cannot be a name."""
        asked = (host, port)
        if asked not in self._running:
            if len(self._running) >= AT_ONCE:
                raise OSError(f"{AT_ONCE} other names are being looked up")
            self._start(asked)
        # Shielded: one that gives up does not take the answer from the others that wait for it.
        return await asyncio.shield(self._running[asked])

    def _start(self, asked: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()
        answer.add_done_callback(lambda done: done.exception())  # it may be that nobody waits any more
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
            except ValueError as error:  # UnicodeError among them: an empty label, one over 63 letters, a NUL
                found = OSError(f"{error}")
            try:
                loop.call_soon_threadsafe(settle, found)
            except RuntimeError:
                return  # the loop has ended, and with it all who asked

        threading.Thread(target=work, name=f"look up {asked[0][:64]}", daemon=True).start()
