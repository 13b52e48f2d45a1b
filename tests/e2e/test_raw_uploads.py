"""Uploads that are no forms: `curl --data-binary @file`, with the options in the query."""

import asyncio
import os
import socket

import nats
import psutil
import pytest

from schemas.subjects import AUDIO_BUCKET
from tests.support.http import AUDIO, finish, transcribe, words
from tests.support.system import Gateway, System
from tests.support.waiting import wait_until

MIB = 1024 * 1024
Shared = tuple[System, Gateway]
GREEDY = {"beam_size": "1"}


async def stored_audio(url: str) -> int:
    """Messages in the audio bucket: chunks and objects."""
    client = await nats.connect(url)
    info = await client.jetstream().stream_info(f"OBJ_{AUDIO_BUCKET}")
    await client.close()
    return int(info.state.messages)


def left(system: System) -> int:
    return asyncio.run(stored_audio(system.nats.url))


@pytest.mark.parametrize("kind", ["audio/mpeg", "application/octet-stream", "Audio/*"])
def test_a_body_is_transcribed_as_the_same_file_in_a_form(shared: Shared, kind: str) -> None:
    _, gateway = shared
    audio = (AUDIO / "english.mp3").read_bytes()
    form = transcribe(gateway.http, AUDIO / "english.mp3", **GREEDY)
    query = {**GREEDY, "filename": "english.mp3"}
    taken = gateway.http.post("/jobs", params=query, content=audio, headers={"Content-Type": kind})
    assert taken.status_code == 202, taken.text
    job = finish(gateway.http, taken.json()["job_id"])
    assert words(job) == words(form) != ""
    assert (job["filename"], job["options"]) == (form["filename"], form["options"])


def test_the_file_is_named_by_the_header(shared: Shared) -> None:
    _, gateway = shared
    headers = {
        "Content-Type": "audio/mpeg",
        "Content-Disposition": "attachment; filename=\"x\"; filename*=UTF-8''%E2%82%AC.mp3",
    }
    taken = gateway.http.post("/jobs", content=iter([b"x", b"y"]), headers=headers)
    assert gateway.http.get(taken.headers["Location"]).json()["filename"] == "€.mp3"


def test_a_form_and_a_body_with_the_same_content_are_the_same_submission(shared: Shared) -> None:
    _, gateway = shared
    once = {"Idempotency-Key": os.urandom(8).hex()}
    form = gateway.http.post(
        "/jobs", files={"audio": ("a", b"x")}, data={"language": "de"}, headers=once
    ).json()
    raw = {**once, "Content-Type": "audio/mpeg"}
    again = gateway.http.post("/jobs?language=de&filename=a", content=b"x", headers=raw)
    assert (again.status_code, again.json()) == (200, form)
    for query, body in (("language=en&filename=a", b"x"), ("language=de&filename=a", b"y")):
        other = gateway.http.post(f"/jobs?{query}", content=body, headers=raw)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def test_memory_stays_flat_and_a_cut_upload_leaves_nothing(system: System) -> None:
    gateway = system.gateway(UPLOAD_IDLE_TIMEOUT_SECS="5")
    process, piece = psutil.Process(gateway.pid), os.urandom(MIB)
    before, most = process.memory_info().rss, 0
    head = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\nContent-Length: 999999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as client:
        client.sendall(head)
        for _ in range(128):
            client.sendall(piece)
            most = max(most, process.memory_info().rss)
        assert left(system) > 0
    assert most - before < 64 * MIB
    wait_until(lambda: left(system) == 0)


def test_a_stalled_body_is_given_up(system: System) -> None:
    gateway = system.gateway(UPLOAD_IDLE_TIMEOUT_SECS="0.5")
    head = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\nContent-Length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as client:
        client.sendall(head + b"x" * 1000)
        client.settimeout(20)
        answer = client.recv(65536)
    assert b" 400 " in answer.split(b"\r\n")[0]
    wait_until(lambda: left(system) == 0)


def test_a_body_over_the_limit_is_refused_and_leaves_nothing(system: System) -> None:
    gateway = system.gateway(MAX_UPLOAD_BYTES=str(MIB))
    for content in (bytes(MIB + 1), iter([bytes(MIB), b"x"])):
        answer = gateway.http.post("/jobs", content=content, headers={"Content-Type": "audio/wav"})
        assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert left(system) == 0
