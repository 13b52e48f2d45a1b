"""The HTTP face: streams, polling, errors, cancelling, large and broken uploads."""

import asyncio
import json
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import nats
import psutil
import pytest

from schemas.errors import ErrorCode
from schemas.subjects import AUDIO_BUCKET
from tests.support.http import AUDIO, EXPECTED, TERMINAL, events, finish, submit, transcribe, words
from tests.support.system import Gateway, System

MIB = 1024 * 1024
Shared = tuple[System, Gateway]


async def stored_audio(url: str) -> int:
    """Messages in the audio bucket: chunks and objects."""
    client = await nats.connect(url)
    info = await client.jetstream().stream_info(f"OBJ_{AUDIO_BUCKET}")
    await client.close()
    return int(info.state.messages)


def test_late_repeated_and_resumed_streams_tell_everything_once(shared: Shared) -> None:
    _, gateway = shared
    job_id = submit(gateway.http, "long.ogg", (AUDIO / "long.ogg").read_bytes())
    live = list(events(gateway.http, job_id))
    again = list(events(gateway.http, job_id))
    assert [(e.id, e.event, e.data) for e in again] == [(e.id, e.event, e.data) for e in live]

    kinds = [e.event for e in live]
    assert kinds[:2] == ["queued", "started"]
    assert kinds[-1] == "done"
    assert sum(k in TERMINAL for k in kinds) == 1
    ids = [int(e.id) for e in live]
    assert ids == sorted(set(ids))
    segments = [json.loads(e.data)["segment"] for e in live if e.event == "segment"]
    assert [s["index"] for s in segments] == list(range(len(segments)))
    job = json.loads(live[-1].data)["job"]
    assert job["segments"] == segments
    assert gateway.http.get(f"/jobs/{job_id}").json() == job
    percents = [json.loads(e.data)["percent"] for e in live if e.event == "progress"]
    assert percents == sorted(set(percents))
    assert all(0 < p < 100 for p in percents)

    for middle in (0, len(live) // 2, len(live) - 2):
        rest = list(events(gateway.http, job_id, live[middle].id))
        assert [e.id for e in rest] == [e.id for e in live[middle + 1 :]]


def test_clients_that_come_while_the_job_runs_get_all_of_it(shared: Shared) -> None:
    _, gateway = shared
    job_id = submit(gateway.http, "long.ogg", (AUDIO / "long.ogg").read_bytes())
    seen: dict[int, list[tuple[str, str]]] = {}

    def follow(number: int, after: int) -> None:
        with httpx.Client(base_url=gateway.url, timeout=60) as http:
            seen[number] = [(e.id, e.data) for e in events(http, job_id)]
            del after

    threads = []
    for number, event in enumerate(events(gateway.http, job_id)):
        thread = threading.Thread(target=follow, args=(number, int(event.id)))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join(60)
    assert len(seen) == len(threads)
    assert all(found == seen[0] for found in seen.values())


def test_heartbeats_are_single_comment_lines(system: System) -> None:
    gateway = system.gateway(SSE_HEARTBEAT_SECS="0.2")  # and no worker: the job stays queued
    job_id = submit(gateway.http, "a.wav", b"x")
    with gateway.http.stream("GET", f"/jobs/{job_id}/stream") as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        text = ""
        for piece in response.iter_text():
            text += piece
            if text.count(":\n") >= 3:
                break
    assert text.endswith("\n\n:\n:\n:\n")


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    whole = {name: (AUDIO / name).read_bytes() for name in ("telephone.wav", "english.m4a")}
    return {
        "empty": b"",
        "garbage": random.Random(1).randbytes(50_000),
        "header only.wav": whole["telephone.wav"][:44],
        **{f"cut {name}": data[: len(data) * 6 // 10] for name, data in whole.items()},
        "no audio.mp4": video_without_audio(tmp_path_factory.mktemp("bad") / "v.mp4"),
    }


def video_without_audio(path: Path) -> bytes:
    import subprocess

    from tests.support.ffmpeg import ffmpeg

    command = [
        ffmpeg(),
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=d=1:s=64x64",
        "-c:v",
        "mpeg4",
        str(path),
    ]
    subprocess.run(command, check=True)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("empty", {ErrorCode.AUDIO_EMPTY}),
        ("garbage", {ErrorCode.AUDIO_UNDECODABLE}),
        ("header only.wav", {ErrorCode.AUDIO_EMPTY, ErrorCode.AUDIO_UNDECODABLE}),
        ("cut english.m4a", {ErrorCode.AUDIO_UNDECODABLE}),
        ("no audio.mp4", {ErrorCode.AUDIO_NO_STREAM}),
    ],
)
def test_bad_files_fail_in_words_and_the_worker_goes_on(
    shared: Shared, bad_files: dict[str, bytes], name: str, codes: set[ErrorCode]
) -> None:
    _, gateway = shared
    job = finish(gateway.http, submit(gateway.http, name, bad_files[name]))
    assert job["status"] == "failed"
    assert job["error"]["code"] in codes
    assert job["error"]["message"].endswith(".")
    assert transcribe(gateway.http, AUDIO / "telephone.wav")["status"] == "done"


@pytest.mark.parametrize(
    ("request_args", "status", "code", "field"),
    [
        (
            {"content": b"{}", "headers": {"Content-Type": "application/json"}},
            415,
            "unsupported_media_type",
            None,
        ),
        ({"files": {"file": ("a", b"1")}}, 400, "invalid_request", "file"),
        ({"files": {"language": (None, b"de")}}, 422, "missing_audio", "audio"),
        ({"files": {"audio": ("a", b"1")}, "data": {"language": "xx"}}, 422, "invalid_option", "language"),
        ({"files": {"audio": ("a", b"1")}, "data": {"colour": "red"}}, 422, "invalid_option", "colour"),
        ({"files": [("audio", ("a", b"1")), ("vad", (None, b"perhaps"))]}, 422, "invalid_option", "vad"),
    ],
)
async def test_bad_requests_get_a_problem_and_leave_nothing(
    shared: Shared, request_args: dict[str, object], status: int, code: str, field: str | None
) -> None:
    system, gateway = shared
    response = gateway.http.post("/jobs", **request_args)  # type: ignore[arg-type] # parametrised
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert (problem["code"], problem.get("field"), problem["status"]) == (code, field, status)
    assert await stored_audio(system.nats.url) == 0


@pytest.mark.parametrize("path", ["/jobs/nobody", "/jobs/nobody/stream", "/jobs/a.b", "/nothing"])
def test_unknown_things_are_404_problems(shared: Shared, path: str) -> None:
    _, gateway = shared
    response = gateway.http.get(path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert gateway.http.put("/jobs").json()["code"] == "method_not_allowed"


def test_cancel_queued_running_and_ended(system: System) -> None:
    gateway = system.gateway()
    queued = submit(gateway.http, "a.wav", b"x")
    answer = gateway.http.delete(f"/jobs/{queued}")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert gateway.http.get("/health").json()["queue_depth"] == 0
    assert [e.event for e in events(gateway.http, queued)] == ["queued", "cancelled"]
    assert gateway.http.delete(f"/jobs/{queued}").json()["code"] == "job_finished"
    assert gateway.http.delete("/jobs/nobody").status_code == 404

    worker = system.worker(STRETCH_SECS="30")
    running = submit(gateway.http, "long.ogg", (AUDIO / "long.ogg").read_bytes() * 1, vad="false")
    for event in events(gateway.http, running):
        if event.event == "segment":
            assert gateway.http.delete(f"/jobs/{running}").status_code == 200
            break
    kinds = [e.event for e in events(gateway.http, running)]
    assert kinds[-1] == "cancelled"
    assert kinds.count("cancelled") == 1
    assert transcribe(gateway.http, AUDIO / "telephone.wav")["status"] == "done"
    assert worker.stop() == 0


def test_jobs_are_listed_newest_first(system: System) -> None:
    gateway = system.gateway()
    ids = [submit(gateway.http, f"{n}.wav", b"x") for n in range(3)]
    listed = gateway.http.get("/jobs").json()["jobs"]
    assert [j["id"] for j in listed] == ids[::-1]
    assert {j["status"] for j in listed} == {"queued"}
    assert [j["id"] for j in gateway.http.get("/jobs?limit=1").json()["jobs"]] == ids[-1:]
    assert gateway.http.get("/jobs?limit=x").status_code == 422


def test_health_tells_of_workers_and_queue(system: System) -> None:
    gateway = system.gateway()
    health = gateway.http.get("/health").json()
    storage = health.pop("storage")
    assert (storage["audio_used"], storage["full"]) == (0, False)
    assert storage["audio_limit"] > 0, "a share of the store is reserved for audio"
    assert health == {
        "status": "degraded",
        "reasons": ["No worker is running."],
        "broker": "ok",
        "model_state": "offline",
        "queue_depth": 0,
        "dead_letters": 0,
        "gpu": None,
        "workers": [],
    }
    system.worker(WORKER_ID="w1")
    transcribe(gateway.http, AUDIO / "telephone.wav")
    health = gateway.http.get("/health").json()
    assert (health["status"], health["model_state"]) == ("ok", "ready")
    [worker] = health["workers"]
    assert (worker["worker_id"], worker["model"]["backend"]) == ("w1", "cpu")


def test_docs_work_offline(shared: Shared) -> None:
    _, gateway = shared
    page = gateway.http.get("/docs")
    assert page.status_code == 200
    for asset in (
        "/docs/swagger-ui-bundle.js",
        "/docs/swagger-ui.css",
        "/docs/start.js",
        "/docs/favicon-32x32.png",
    ):
        assert asset in page.text
        assert gateway.http.get(asset).status_code == 200
    assert "://" not in page.text
    assert gateway.http.get("/openapi.json").json()["openapi"] == "3.1.0"
    assert gateway.http.get("/docs/../app.py").status_code == 404


def test_two_gateways_serve_the_same_jobs(system: System) -> None:
    one, two = system.gateway(), system.gateway()
    system.worker()
    job_id = submit(one.http, "long.ogg", (AUDIO / "long.ogg").read_bytes())
    first = next(events(one.http, job_id))
    rest = list(events(two.http, job_id, first.id))
    assert rest[-1].event == "done"
    assert two.http.get(f"/jobs/{job_id}").json() == one.http.get(f"/jobs/{job_id}").json()
    other = submit(two.http, "telephone.wav", (AUDIO / "telephone.wav").read_bytes())
    assert finish(one.http, other)["status"] == "done"


def random_form(size: int, piece: bytes) -> Iterator[bytes]:
    yield b'--xyz\r\nContent-Disposition: form-data; name="audio"; filename="big"\r\n\r\n'
    for _ in range(size // len(piece)):
        yield piece
    yield b"\r\n--xyz--\r\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_gib_go_through_with_flat_memory(system: System) -> None:
    gateway = system.gateway()
    process = psutil.Process(gateway.pid)
    transcript = submit(gateway.http, "warm-up", b"x" * MIB)
    gateway.http.delete(f"/jobs/{transcript}")
    before, peak, stop = process.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.05):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    headers = {"Content-Type": "multipart/form-data; boundary=xyz"}
    piece = os.urandom(MIB)
    response = gateway.http.post(
        "/jobs", content=random_form(2048 * MIB, piece), headers=headers, timeout=240
    )
    stop.set()
    watcher.join()
    assert response.status_code == 202, response.text
    print(f"2 GiB: RSS {before / MIB:.0f} MiB before, {peak / MIB:.0f} MiB at most")
    assert peak - before < 64 * MIB
    system.worker()
    job = finish(gateway.http, response.json()["job_id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "audio_undecodable")
    assert eventually_zero(system.nats.url)


@pytest.mark.timeout(120)
def test_an_aborted_upload_leaves_no_object_and_no_chunk(system: System) -> None:
    gateway = system.gateway()
    address = ("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
    with socket.create_connection(address) as client:
        head = "POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=xyz\r\n"
        client.sendall(f"{head}Content-Length: {2048 * MIB}\r\n\r\n".encode())
        for number, piece in enumerate(random_form(200 * MIB, os.urandom(MIB))):
            if number == 200:
                break
            client.sendall(piece)
    assert eventually_zero(system.nats.url)
    assert gateway.http.get("/jobs").json() == {"jobs": [], "next_cursor": None}


def eventually_zero(url: str) -> bool:
    """The gateway hears of the broken connection a moment later."""

    async def wait() -> bool:
        async with asyncio.timeout(20):
            while await stored_audio(url):
                await asyncio.sleep(0.05)
        return True

    return asyncio.run(wait())


def test_a_stalled_upload_is_given_up(system: System) -> None:
    gateway = system.gateway(UPLOAD_IDLE_TIMEOUT_SECS="0.5")
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as client:
        head = "POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=xyz\r\n"
        client.sendall(f"{head}Content-Length: 1000000\r\n\r\n".encode() + next(random_form(MIB, b"x")))
        client.settimeout(20)
        answer = client.recv(65536)
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert eventually_zero(system.nats.url)


def test_a_lost_broker_is_told_and_survived(system: System) -> None:
    gateway = system.gateway()
    system.worker()
    assert words(transcribe(gateway.http, AUDIO / "telephone.wav"))
    system.nats.stop()
    answer = gateway.http.get("/jobs")
    assert (answer.status_code, answer.json()["code"]) == (503, "broker_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    health = gateway.http.get("/health")
    assert (health.status_code, health.json()["status"], health.json()["broker"]) == (
        200,
        "degraded",
        "unreachable",
    )
    assert gateway.http.get("/health/ready").status_code == 503
    assert gateway.http.get("/health/live").status_code == 200
    system.nats.start()
    job = transcribe_patiently(gateway.http)
    assert job["language"] == EXPECTED["telephone.wav"]["language"]
    assert gateway.http.get("/health/ready").status_code == 200


def transcribe_patiently(http: httpx.Client) -> dict[str, object]:
    """A client that does what 503 asks for."""
    for _ in range(20):
        response = http.post("/jobs", files={"audio": ("t.wav", (AUDIO / "telephone.wav").read_bytes())})
        if response.status_code == 202:
            return finish(http, response.json()["job_id"])
        assert response.status_code == 503
        threading.Event().wait(float(response.headers["Retry-After"]))
    raise AssertionError("the broker never came back")
