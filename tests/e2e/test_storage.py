"""What is accepted is stored; where there is no room the client is told so at once, and everything else goes on."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from schemas.subjects import IDEMPOTENCY_BUCKET
from tests.support.disk import fill, mounted
from tests.support.http import AUDIO, finish, submit, wait_until_ready, words
from tests.support.jetstream import change_stream, key_entries, messages, object_names, put_entry
from tests.support.nats_process import NatsProcess
from tests.support.system import System

MIB = 2**20
LIMIT = "jetstream { max_file_store: 60MB }"
SPEECH = (AUDIO / "telephone.wav").read_bytes()


def big(megabytes: int) -> bytes:
    """A file that is no audio."""
    return b"\x00" * (megabytes * MIB)


@pytest.fixture
def small_store(tmp_path: Path, demo_model: Path) -> Iterator[System]:
    """A system whose nats-server has 60 MB for everything."""
    system = System(tmp_path, demo_model, NatsProcess(tmp_path / "nats", LIMIT))
    yield system
    system.close()
    print(system.logs())


def post(http: httpx.Client, content: bytes, **headers: str) -> httpx.Response:
    return http.post("/jobs", files={"audio": ("a.wav", content)}, headers=headers)


def test_a_full_store_is_told_at_once_and_everything_else_goes_on(small_store: System) -> None:
    http = small_store.gateway(AUDIO_RETENTION_SECS="3600").http
    first = submit(http, "a.wav", SPEECH)
    queued = [first, *(str(post(http, big(20)).json()["job_id"]) for _ in range(2))]
    begun = time.monotonic()
    refused = post(http, big(90))
    took = time.monotonic() - begun
    assert (refused.status_code, refused.json()["code"]) == (507, "storage_full"), refused.text
    assert refused.headers["Retry-After"]
    assert took < 10, f"{took:.1f} s, upload included"
    health = http.get("/health").json()
    assert health["status"] == "degraded"
    assert any("full" in reason for reason in health["reasons"]), health
    assert health["storage"]["full"]
    assert post(http, big(20)).status_code == 507
    # What is small has room, always: records, events, cancels and deletions.
    assert http.delete(f"/jobs/{queued[1]}").json()["status"] == "cancelled"
    assert http.delete(f"/jobs/{queued[1]}?erase=true").status_code == 204
    assert http.get(f"/jobs/{queued[1]}").status_code == 404
    # There is room again, without anybody's doing.
    again = post(http, big(15))
    assert again.status_code == 202, again.text
    small_store.worker()
    assert words(finish(http, first))
    assert finish(http, str(again.json()["job_id"]))["status"] == "failed"  # it is no audio


def test_the_refusal_comes_with_the_first_refused_chunk_and_not_with_the_end(small_store: System) -> None:
    """A client that sends slowly is not left to send all of it: it hears of it while it waits to send more."""
    gateway = small_store.gateway()

    def slow_after_the_limit() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        for _ in range(80):
            yield big(1)
        for _ in range(100):
            time.sleep(0.1)
            yield b"x"

    response = gateway.http.post(
        "/jobs",
        content=slow_after_the_limit(),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert response.status_code == 507, response.text
    chunks = messages(small_store.nats.url, "OBJ_WHISPER_AUDIO")
    assert chunks == 0, "nothing of it stays"


@pytest.mark.parametrize("limit", ["max_msgs", "max_bytes"])
def test_a_queue_that_is_full_accepts_no_job_and_keeps_no_audio(system: System, limit: str) -> None:
    http = system.gateway().http
    first = submit(http, "a.wav", SPEECH)
    change_stream(system.nats.url, "WHISPER_JOBS", **{limit: 1 if limit == "max_msgs" else 400})
    for headers in ({}, {"Idempotency-Key": "k"}, {"Idempotency-Key": "k"}):
        refused = post(http, SPEECH, **headers)
        assert (refused.status_code, refused.json()["code"]) == (507, "storage_full"), refused.text
    assert [job["id"] for job in http.get("/jobs").json()["jobs"]] == [first]
    assert len(object_names(system.nats.url, "WHISPER_AUDIO")) == 1
    change_stream(system.nats.url, "WHISPER_JOBS", **{limit: -1})
    assert post(http, SPEECH, **{"Idempotency-Key": "k"}).status_code == 202


def test_an_erased_job_and_the_same_key_make_a_job_that_is_there(system: System) -> None:
    http = system.gateway().http
    job_id = post(http, SPEECH, **{"Idempotency-Key": "k"}).json()["job_id"]
    http.delete(f"/jobs/{job_id}")
    assert http.delete(f"/jobs/{job_id}?erase=true").status_code == 204
    again = post(http, SPEECH, **{"Idempotency-Key": "k"})
    assert again.status_code == 202
    assert http.get(f"/jobs/{again.json()['job_id']}").json()["status"] == "queued"


def test_an_upload_whose_key_another_has_by_now_is_told_and_leaves_no_audio(system: System) -> None:
    """As when its gateway hung for so long that it was taken for dead."""
    gateway = system.gateway()
    form = (
        b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        + SPEECH
        + b"\r\n--b--\r\n"
    )
    head = (
        "POST /jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: k\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(form)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as client:
        client.sendall(head.encode() + form[:1000])
        deadline = time.monotonic() + 20
        while not (key := key_entries(system.nats.url, IDEMPOTENCY_BUCKET)):
            assert time.monotonic() < deadline, "the key is never taken"
        other = b'{"job_id":"other","renewed_at":"2026-01-01T00:00:00Z","holder":"another"}'
        put_entry(system.nats.url, IDEMPOTENCY_BUCKET, key[0], other)
        client.sendall(form[1000:])
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    assert b" 409 " in answer.split(b"\r\n")[0], answer
    assert b"upload_running" in answer
    assert object_names(system.nats.url, "WHISPER_AUDIO") == []
    assert gateway.http.get("/jobs").json()["jobs"] == []


def test_an_upload_has_a_limit_where_one_is_set(system: System) -> None:
    http = system.gateway(MAX_UPLOAD_BYTES=str(MIB)).http
    assert post(http, SPEECH).status_code == 202
    refused = post(http, big(2))
    assert (refused.status_code, refused.json()["code"]) == (413, "request_too_large")

    def unknown_length() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        yield from (big(1) for _ in range(3))

    chunked = http.post(
        "/jobs", content=unknown_length(), headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert (chunked.status_code, chunked.json()["code"]) == (413, "request_too_large")
    assert len(object_names(system.nats.url, "WHISPER_AUDIO")) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", megabytes=60) as folder:
        yield folder


def test_a_disk_that_is_full_is_told_at_once(tmp_path: Path, demo_model: Path, small_disk: Path) -> None:
    """nats-server then stays silent: it answers no publish, until it is restarted."""
    system = System(tmp_path, demo_model, NatsProcess(tmp_path / "nats", store=small_disk))
    try:
        http = system.gateway().http
        first = submit(http, "a.wav", SPEECH)
        ballast = fill(small_disk, left=8 * MIB)
        begun = time.monotonic()
        refused = post(http, big(20))
        assert (refused.status_code, refused.json()["code"]) == (507, "storage_full"), refused.text
        assert time.monotonic() - begun < 10
        assert http.get("/health").json()["status"] == "degraded"
        ballast.unlink()
        system.nats.stop()
        system.nats.start()
        wait_until_ready(http)
        system.worker()
        assert words(finish(http, first))
        assert http.get(f"/jobs/{submit(http, 'b.wav', SPEECH)}").status_code == 200
    finally:
        system.close()
        print(system.logs())
