"""A TCP proxy between a client of NATS and its server, that can hold one message back: a fault injector.

It reads what the client says (PUB and HPUB with their sizes, everything else is a line) and stops before the first message
that is asked for. `release` lets it go on; a connection that ends meanwhile takes what was held with it.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

LIMIT = 2**20
Wanted = Callable[[str, bytes], bool]
"""Whether to hold a message with this subject and this payload (headers included)."""


class Proxy:
    def __init__(self, url: str) -> None:
        """Listen at once; `url` is the server's, which may come and go."""
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 4222
        self._wanted: Wanted | None = None
        self.held = threading.Event()
        self._open = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._listening.wait(10):
            raise RuntimeError("the proxy does not listen")

    def hold(self, wanted: Wanted) -> None:
        """Hold the first such message; `held` is set then."""
        self._wanted = wanted

    def release(self) -> None:
        self._wanted = None
        self._loop.call_soon_threadsafe(self._open.set)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, "127.0.0.1", 0, limit=LIMIT)
        )
        self.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._listening.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, to_server = await asyncio.open_connection(self._host, self._port, limit=LIMIT)
        except OSError:  # the server is down: so is the client's connection
            writer.close()
            return
        ways = [
            asyncio.ensure_future(self._orders(reader, to_server)),
            asyncio.ensure_future(_copy(upstream, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            writer.close()
            to_server.close()

    async def _orders(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while line := await source.readline():
                words = line.split()
                if words and words[0].upper() in (b"PUB", b"HPUB"):
                    body = await source.readexactly(int(words[-1]) + 2)
                    await self._gate(words[1].decode(), body)
                    line += body
                sink.write(line)
                await sink.drain()

    async def _gate(self, subject: str, body: bytes) -> None:
        if self._wanted is not None and not self.held.is_set() and self._wanted(subject, body):
            self.held.set()
            await self._open.wait()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
