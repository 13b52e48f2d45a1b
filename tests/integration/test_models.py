"""Model files: the demo unpacked; named ones downloaded from a real HTTP server that breaks, lies and forgets ranges."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from standalone import models


class Server(http.server.ThreadingHTTPServer):
    """Serves one body; `break_after` cuts each answer short, `ranges` says whether it can resume."""

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.break_after, self.ranges, self.status = body, 0, True, 200
        self.requested: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requested.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(self.server.body):
            self.send_error(416)
            return
        rest = self.server.body[start:]
        self.send_response(self.server.status if self.server.status != 200 else (206 if start else 200))
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.break_after or None])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(demo_model: Path) -> Iterator[Server]:
    server = Server(demo_model.read_bytes())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(server: Server, folder: Path, name: str = "mine") -> tuple[Path, list[tuple[int, int | None]]]:
    told: list[tuple[int, int | None]] = []
    path = models.fetch(name, folder, server.url, lambda done, total: told.append((done, total)))
    return path, told


def test_a_download_is_reported_checked_and_put_in_place(server: Server, tmp_path: Path) -> None:
    path, told = fetch(server, tmp_path / "models")
    assert path == tmp_path / "models" / "ggml-mine.bin"
    assert path.read_bytes() == server.body
    assert told[-1] == (len(server.body), len(server.body))
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    fetch(server, tmp_path / "models")
    assert len(server.requested) == 1


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.break_after = 3_000_000
    path, _ = fetch(server, tmp_path)
    assert path.read_bytes() == server.body
    assert server.requested == [None, "bytes=3000000-", "bytes=6000000-", "bytes=9000000-"]


def test_a_later_run_resumes_and_a_server_without_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "ggml-mine.part"
    part.write_bytes(server.body[:500_000])
    server.ranges = False
    path, _ = fetch(server, tmp_path)
    assert path.read_bytes() == server.body
    assert server.requested == ["bytes=500000-"]


def test_a_complete_part_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "ggml-mine.part").write_bytes(server.body)
    path, _ = fetch(server, tmp_path)
    assert path.read_bytes() == server.body


def test_endless_trouble_ends(server: Server, tmp_path: Path) -> None:
    server.break_after = 1000
    with pytest.raises(models.ModelError, match="run it again"):
        fetch(server, tmp_path)
    assert len(server.requested) == models.ATTEMPTS
    assert (tmp_path / "ggml-mine.part").stat().st_size == models.ATTEMPTS * 1000


def test_a_wrong_name_is_told(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(models.ModelError, match="404"):
        fetch(server, tmp_path)


def test_a_wrong_hash_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(models.ModelError, match="hash"):
        fetch(server, tmp_path, "tiny")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_model_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    server.body = server.body[:-1]
    with pytest.raises(models.ModelError, match="cut off"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []
