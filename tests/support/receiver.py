"""A webhook receiver: a real HTTP server that keeps what it is sent, and answers as a test tells it."""

import json
import queue
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TIMEOUT_SECS = 30
RESET, HANG = -1, -2
"""Instead of a status: reset the connection, or say nothing until the receiver is closed."""

Post = tuple[dict[str, str], dict[str, Any]]
"""Headers, in small letters, and body."""


class Receiver:
    family = socket.AF_INET

    def __init__(
        self,
        answer: Callable[[int], int] = lambda _number: 204,
        *,
        location: str = "",
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """`answer` gives the status for each POST, numbered from 1 per type; `location` is where redirects lead."""
        self.posts: queue.Queue[Post] = queue.Queue()
        self.raw: list[bytes] = []
        """The bodies as they came."""
        self._closed = threading.Event()
        numbers, receiver = Counter[str](), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.raw.append(body)
                told = json.loads(body)
                receiver.posts.put(({k.lower(): v for k, v in self.headers.items()}, told))
                numbers[told["type"]] += 1
                status = answer(numbers[told["type"]])
                if status == HANG:
                    receiver._closed.wait()
                elif status == RESET:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                else:
                    self.send_response(status)
                    if location:
                        self.send_header("Location", location)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = receiver.family

            def handle_error(self, request: object, client_address: object) -> None:
                return  # a reset that was asked for

        self._server = Server((host, port), Handler)
        self.port = self._server.server_port
        self.url = f"http://{host}:{self.port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def next(self) -> Post:
        """The next POST."""
        return self.posts.get(timeout=TIMEOUT_SECS)

    def next_of(self, kind: str) -> Post:
        """The next POST of this type; those before it are left out."""
        while (post := self.next())[1]["type"] != kind:
            pass
        return post

    def until(self, kind: str) -> list[Post]:
        """All POSTs up to the next of this type, that one included."""
        found = [self.next()]
        while found[-1][1]["type"] != kind:
            found.append(self.next())
        return found

    def rest(self) -> list[Post]:
        """What has come and was not taken yet."""
        return list(self.posts.queue)

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
