"""Model files: the demo unpacked; named ones downloaded from a real HTTP server that breaks, lies and forgets ranges."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from standalone import models
from standalone.known_models import DEMO, KNOWN, KnownModel
from tests.support.model_server import Server, serving


@pytest.fixture
def server(demo_model: Path) -> Iterator[Server]:
    with serving(demo_model.read_bytes()) as server:
        yield server


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


def test_a_resumed_download_is_checked_by_its_published_hash(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes with one of them changed on the way are refused, though their structure is whole."""
    published = hashlib.sha1(server.body).hexdigest()
    monkeypatch.setitem(KNOWN, "mine", KnownModel("10 MiB", published))
    server.break_after = 4_000_000
    path, _ = fetch(server, tmp_path / "right")
    assert models.sha1(path) == published
    assert server.requested == [None, "bytes=4000000-", "bytes=8000000-"]
    server.body = server.body[:-1] + bytes([server.body[-1] ^ 1])
    with pytest.raises(models.ModelError, match="hash"):
        fetch(server, tmp_path / "wrong")
    assert list((tmp_path / "wrong").iterdir()) == []


def test_the_shipped_model_has_its_published_hash(demo_model: Path) -> None:
    assert models.sha1(demo_model) == KNOWN[DEMO].sha1
    assert KNOWN[DEMO].size == f"{demo_model.stat().st_size / 2**20:.0f} MiB"


def test_a_mirror_is_asked_for_the_file_below_its_address(server: Server, tmp_path: Path) -> None:
    models.fetch("mine", tmp_path, f"{server.url}/models/", lambda _done, _total: None)
    assert server.paths == ["/models/ggml-mine.bin"]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://[::1", "", "mirror/models"])
def test_an_address_that_is_none_is_told(tmp_path: Path, url: str) -> None:
    with pytest.raises(models.ModelError, match="MODEL_BASE_URL"):
        models.fetch("mine", tmp_path, url, lambda _done, _total: None)


@pytest.mark.parametrize("name", ["base en", "..", "-x", "a\nb", "base?", "großes"])
def test_what_is_no_name_is_not_asked_for(server: Server, tmp_path: Path, name: str) -> None:
    with pytest.raises(models.ModelError, match="no name of a model"):
        fetch(server, tmp_path, name)
    assert server.requested == []


def test_a_folder_that_cannot_be_used_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(models.ModelError, match="set MODELS_DIR"):
        fetch(server, tmp_path / "file" / "models")


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
    with pytest.raises(models.ModelError, match="404: did you mean large-v3-turbo"):
        fetch(server, tmp_path, "large-v3-trubo")
    server.status = 403
    with pytest.raises(models.ModelError, match="403: try it later, or set another MODEL_BASE_URL"):
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
