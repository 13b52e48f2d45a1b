"""A local mirror of model files, that breaks, stands still, lies and forgets ranges."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Server(http.server.ThreadingHTTPServer):
    """Serves one body at every path. `break_after` cuts each answer short, `ranges` says whether it can resume.

    With `hold` an answer that was cut short stays open until the server is closed, as from a server that stands still.
    """

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.break_after, self.ranges, self.status = body, 0, True, 200
        self.hold, self.is_closing, self.paths = False, threading.Event(), list[str]()
        self.requested: list[str | None] = []

    @property
    def url(self) -> str:
        """What MODEL_BASE_URL is set to."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requested.append(asked)
        self.server.paths.append(self.path)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(self.server.body):
            self.send_error(416)
            return
        rest = self.server.body[start:]
        self.send_response(self.server.status if self.server.status != 200 else (206 if start else 200))
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        # A client may hang up when it has seen the status.
        with suppress(ConnectionError):
            self.wfile.write(rest[: self.server.break_after or None])
        if self.server.hold:
            self.wfile.flush()
            self.server.is_closing.wait()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(body: bytes) -> Iterator[Server]:
    """A server that runs while the block does."""
    server = Server(body)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.is_closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
