"""A TCP proxy before nats-server that can say something to its clients in the server's name: a fault injector."""

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

BLOCK = 65536


class Interjector:
    def __init__(self, url: str) -> None:
        """`url` is the real server's; the clients' is `self.url`."""
        address = urlsplit(url)
        self._server = (address.hostname or "", address.port or 4222)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self._servers: list[socket.socket] = []
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def say(self, line: bytes) -> None:
        """To every client that is connected."""
        for client in self._clients:
            with suppress(OSError):
                client.sendall(line)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # which wakes the thread that accepts
        for end in [self._listener, *self._clients, *self._servers]:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            self._clients.append(client)
            server = socket.create_connection(self._server)
            self._servers.append(server)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(BLOCK):
            sink.sendall(block)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
