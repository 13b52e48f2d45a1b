"""A job's life over both doors: cancel, list, idempotency, malformed submissions, erase, transcripts of any size."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import msgspec
import nats
import psutil
import pytest
from nats.js import JetStreamContext
from nats.js.errors import NoKeysError

from schemas.errors import ErrorCode
from tests.support.decoders import decoder
from tests.support.http import AUDIO, events, finish, submit, transcribe, words
from tests.support.models import status, wait_for_worker
from tests.support.receiver import Receiver
from tests.support.system import Gateway, System

TELEPHONE = (AUDIO / "telephone.wav").read_bytes()
LONG = (AUDIO / "long.ogg").read_bytes()


async def ask(system: System, subject: str, body: object = None) -> tuple[dict[str, str], Any]:
    """A request over NATS, as `nats req` makes it: headers and body of the answer."""
    client = await nats.connect(system.nats.url)
    data = b"" if body is None else json.dumps(body).encode()
    answer = await client.request(subject, data, timeout=10)
    await client.close()
    return dict(answer.headers or {}), json.loads(answer.data or b"null")


def on_engine(gateway: Gateway, job_id: str) -> bool:
    return bool(status(gateway.http)["job_id"] == job_id)


def wait_until(condition: Callable[[], bool], secs: float = 20) -> None:
    """Where nothing tells of it."""
    deadline = time.monotonic() + secs
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def test_a_cancelled_job_is_off_the_engine_within_two_seconds(system: System) -> None:
    """Long before the end of its stretch; and the next job runs."""
    gateway = system.gateway()
    system.worker()
    job_id = submit(gateway.http, "long.ogg", LONG)
    next(e for e in events(gateway.http, job_id) if e.event == "segment")
    begun = time.monotonic()
    assert gateway.http.delete(f"/jobs/{job_id}").json()["status"] == "cancelled"
    wait_until(lambda: not on_engine(gateway, job_id), secs=2 - (time.monotonic() - begun))
    [*_, last] = events(gateway.http, job_id)
    assert json.loads(last.data)["job"] == gateway.http.get(f"/jobs/{job_id}").json()
    assert transcribe(gateway.http, AUDIO / "telephone.wav")["status"] == "done"


def test_a_cancel_holds_while_no_worker_is_there(system: System) -> None:
    gateway = system.gateway()
    worker = system.worker(STRETCH_SECS="30")
    running = submit(gateway.http, "long.ogg", LONG)
    next(e for e in events(gateway.http, running) if e.event == "segment")
    queued = submit(gateway.http, "t.wav", TELEPHONE)
    worker.stop(signal.SIGKILL)
    for job_id in (running, queued):
        assert gateway.http.delete(f"/jobs/{job_id}").json()["status"] == "cancelled"
    assert gateway.http.get("/health").json()["queue_depth"] == 0
    second = system.worker()
    assert transcribe(gateway.http, AUDIO / "telephone.wav")["status"] == "done"
    for job_id in (running, queued):
        assert gateway.http.get(f"/jobs/{job_id}").json()["status"] == "cancelled"
        assert [e.event for e in events(gateway.http, job_id)].count("cancelled") == 1
        assert f"job {job_id}: stretch" not in second.log.read_text()


async def test_every_http_operation_has_its_nats_counterpart(system: System) -> None:
    gateway = await asyncio.to_thread(system.gateway)
    first, second = [await asyncio.to_thread(submit, gateway.http, f"{n}.wav", TELEPHONE) for n in range(2)]
    _, listed = await ask(system, "whisper.jobs.list", {"limit": 1})
    assert [j["id"] for j in listed["jobs"]] == [second]
    _, more = await ask(system, "whisper.jobs.list", {"cursor": listed["next_cursor"], "status": "queued"})
    assert [j["id"] for j in more["jobs"]] == [first]
    over_http: httpx.Response = await asyncio.to_thread(gateway.http.get, f"/jobs/{first}")
    _, got = await ask(system, f"whisper.jobs.get.{first}")
    assert got == {"v": 1, "job": over_http.json(), "result": None}
    _, cancelled = await ask(system, f"whisper.jobs.cancel.{first}")
    assert cancelled["job"]["status"] == "cancelled"
    headers, problem = await ask(system, f"whisper.jobs.cancel.{first}")
    assert (headers["Nats-Service-Error-Code"], problem["code"]) == ("409", "job_finished")
    headers, problem = await ask(system, "whisper.jobs.get.nobody")
    assert (headers["Nats-Service-Error-Code"], problem["code"]) == ("404", "not_found")
    headers, problem = await ask(system, "whisper.jobs.list", {"limit": 0})
    assert (headers["Nats-Service-Error-Code"], problem["field"]) == ("422", "limit")
    assert (await ask(system, f"whisper.jobs.erase.{first}"))[1] == {}
    headers, _ = await ask(system, f"whisper.jobs.get.{first}")
    assert headers["Nats-Service-Error-Code"] == "404"


def test_pages_and_filters(system: System) -> None:
    gateway = system.gateway()
    ids = [submit(gateway.http, f"{n}.wav", TELEPHONE) for n in range(5)]
    gateway.http.delete(f"/jobs/{ids[1]}")
    seen: list[str] = []
    answer = gateway.http.get("/jobs", params={"limit": 2}).json()
    while True:
        seen += [j["id"] for j in answer["jobs"]]
        if answer["next_cursor"] is None:
            break
        answer = gateway.http.get("/jobs", params={"limit": 2, "cursor": answer["next_cursor"]}).json()
    assert seen == ids[::-1]
    cancelled = gateway.http.get("/jobs", params={"status": "cancelled"}).json()["jobs"]
    assert [j["id"] for j in cancelled] == [ids[1]]
    created = gateway.http.get(f"/jobs/{ids[2]}").json()["created_at"]
    later = gateway.http.get("/jobs", params={"created_after": created}).json()["jobs"]
    assert [j["id"] for j in later] == ids[:2:-1]
    assert gateway.http.get("/jobs?status=asleep").json()["field"] == "status"


def test_queue_position_and_eta(system: System) -> None:
    gateway = system.gateway()
    script = system.script()
    script.plan(job="ok hold")
    worker = system.scripted_worker(script, WORKER_ID="w1")
    finish(gateway.http, submit(gateway.http, "t.wav", TELEPHONE))  # gives a measured real-time factor
    [engine] = script.alive()
    psutil.Process(engine).kill()  # the next engine holds its first job
    first, *others = [submit(gateway.http, "t.wav", TELEPHONE) for _ in range(3)]
    wait_until(lambda: on_engine(gateway, first))
    wait_until(lambda: gateway.http.get("/health").json()["workers"][0]["job_id"] == first)
    wait_until(lambda: gateway.http.get(f"/jobs/{others[0]}").json()["queue_position"] == 1)
    jobs = [gateway.http.get(f"/jobs/{job_id}").json() for job_id in (first, *others)]
    assert [job["queue_position"] for job in jobs] == [None, 1, 2]
    assert jobs[0]["eta"] is None
    assert jobs[1]["created_at"] < jobs[1]["eta"] < jobs[2]["eta"]
    script.go()
    assert {finish(gateway.http, job_id)["status"] for job_id in (first, *others)} == {"done"}
    assert gateway.http.get("/health").json()["workers"][0]["speed"]["audio_secs"] > 0
    assert worker.stop() == 0


def keyed(gateway: Gateway, key: str, audio: bytes = TELEPHONE, **fields: str) -> httpx.Response:
    files = {"audio": ("t.wav", audio)}
    return gateway.http.post("/jobs", files=files, data=fields, headers={"Idempotency-Key": key})


def test_an_idempotency_key_is_one_job(system: System) -> None:
    one = system.gateway()
    first = keyed(one, "k1", language="en")
    assert first.status_code == 202
    again = keyed(one, "k1", language="en")
    assert (again.status_code, again.json(), again.headers["Location"]) == (
        200,
        first.json(),
        first.headers["Location"],
    )
    for other in (keyed(one, "k1", language="de"), keyed(one, "k1", TELEPHONE + b"x", language="en")):
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert keyed(one, "k2", language="en").json() != first.json()
    one.stop(signal.SIGKILL)
    two = system.gateway(JOBS_WHEN_UNLOADED="refuse")
    attached = keyed(two, "k1", language="en")  # attaching needs no model
    assert (attached.status_code, attached.json()) == (200, first.json())
    assert keyed(two, "k3").status_code == 503
    assert keyed(two, "x" * 300).status_code == 400
    system.worker()
    assert finish(two.http, first.json()["job_id"])["status"] == "done"
    assert keyed(two, "k1", language="en").status_code == 200


def claims(system: System) -> int:
    """Idempotency keys that are taken."""

    async def count() -> int:
        client = await nats.connect(system.nats.url)
        bucket = await client.jetstream().key_value("WHISPER_IDEMPOTENCY")
        try:
            return len(await bucket.keys())
        except NoKeysError:
            return 0
        finally:
            await client.close()

    return asyncio.run(count())


def test_while_the_first_upload_runs_the_key_is_taken(system: System) -> None:
    one, two = system.gateway(), system.gateway()
    form = b'--x\r\nContent-Disposition: form-data; name="audio"; filename="t.wav"\r\n\r\n' + TELEPHONE
    end = b"\r\n--x--\r\n"
    head = (
        "POST /jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: k\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(form + end)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", int(one.url.rsplit(":", 1)[1]))) as client:
        client.sendall(head.encode() + form[: len(form) // 2])
        wait_until(lambda: claims(system) == 1)
        busy = keyed(two, "k")
        assert (busy.json()["code"], int(busy.headers["Retry-After"]) > 0) == ("upload_running", True)
        client.sendall(form[len(form) // 2 :] + end)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    assert b" 202 " in answer.split(b"\r\n")[0]
    job_id = re.search(rb'"job_id":"(\w+)"', answer)
    assert job_id
    again = keyed(two, "k")
    assert (again.status_code, again.json()["job_id"]) == (200, job_id[1].decode())


def test_an_upload_that_breaks_off_frees_its_key(system: System) -> None:
    gateway = system.gateway()
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as client:
        head = "POST /jobs HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 100000\r\n"
        client.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n".encode())
        wait_until(lambda: claims(system) == 1)
        assert keyed(gateway, "k").status_code == 409
    wait_until(lambda: claims(system) == 0)
    assert keyed(gateway, "k").status_code == 202


def dead(system: System, *arguments: str) -> str:
    command = [sys.executable, "-m", "standalone.cli", "dead", *arguments]
    import os

    env = {**os.environ, "NATS_URL": system.nats.url}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


async def publish(system: System, job_id: str, body: bytes) -> None:
    client = await nats.connect(system.nats.url)
    await client.jetstream().publish(f"whisper.jobs.submit.{job_id}", body)
    await client.close()


async def stored_events(js: JetStreamContext, job_id: str) -> dict[str, int]:
    """How many events of each type the log has of a job."""
    info = await js.stream_info("WHISPER_EVENTS", subjects_filter=f"whisper.events.job.{job_id}.*")
    return {subject.rsplit(".", 1)[1]: count for subject, count in (info.state.subjects or {}).items()}


async def test_malformed_submissions_are_told_counted_and_kept(system: System) -> None:
    gateway = await asyncio.to_thread(system.gateway)
    client = await nats.connect(system.nats.url)
    js = client.jetstream()
    seen = await client.subscribe("whisper.events.job.*.invalid")
    system.worker()
    await publish(system, "bad1", b"not json")
    await publish(system, "bad2", b'{"options": {"language": "klingon"}}')
    await publish(system, "a/b", b"{}")  # no id can be read from this one
    told = [json.loads((await seen.next_msg(timeout=30)).data) for _ in range(2)]
    assert {(t["job_id"], t["code"], t["field"]) for t in told} == {
        ("bad1", "invalid_request", None),
        ("bad2", "invalid_option", "language"),
    }
    assert (await asyncio.to_thread(transcribe, gateway.http, AUDIO / "telephone.wav"))["status"] == "done"
    await asyncio.to_thread(wait_until, lambda: gateway.http.get("/health").json()["queue_depth"] == 0)
    health: httpx.Response = await asyncio.to_thread(gateway.http.get, "/health")
    assert health.json()["dead_letters"] == 3
    lines = (await asyncio.to_thread(dead, system, "list")).splitlines()
    assert [line.split("  ")[2] for line in lines] == [
        f"whisper.jobs.submit.{name}" for name in ("bad1", "bad2", "a/b")
    ]
    assert "invalid_option: 'klingon' is no language code known to whisper" in lines[1]
    kept = await js.get_msg("WHISPER_DEAD", subject="whisper.dead.submit.bad1")
    assert (kept.data, (kept.headers or {})["Whisper-Subject"]) == (b"not json", "whisper.jobs.submit.bad1")
    # Requeued, it is looked at again; and is dead again, because it is what it was.
    number = lines[0].split("  ")[0]
    assert await asyncio.to_thread(dead, system, "requeue", number) == "whisper.jobs.submit.bad1\n"
    await asyncio.to_thread(wait_until, lambda: dead(system, "list").count("submit.bad1") == 1)
    await client.close()


async def test_a_job_id_that_comes_again_is_the_same_job_or_none(system: System) -> None:
    gateway = await asyncio.to_thread(system.gateway)
    system.worker()
    client = await nats.connect(system.nats.url)
    js = client.jetstream()
    store = await js.object_store("WHISPER_AUDIO")
    await store.put("same", TELEPHONE)
    await publish(system, "same", b'{"options": {"language": "en"}}')
    job = await asyncio.to_thread(finish, gateway.http, "same")

    def acknowledged() -> bool:
        return bool(gateway.http.get("/health").json()["queue_depth"] == 0)

    await asyncio.to_thread(wait_until, acknowledged)
    await publish(system, "same", b'{"options": {"language": "en"}}')
    await asyncio.to_thread(wait_until, acknowledged)
    again: httpx.Response = await asyncio.to_thread(gateway.http.get, "/jobs/same")
    assert again.json() == job
    assert (await stored_events(js, "same"))["done"] == 1
    seen = await client.subscribe("whisper.events.job.same.invalid")
    for language in ("de", "fr"):  # each is answered
        await asyncio.to_thread(wait_until, acknowledged)
        await publish(system, "same", json.dumps({"options": {"language": language}}).encode())
        told = json.loads((await seen.next_msg(timeout=10)).data)
        assert told["code"] == "duplicate_job"
    await client.close()


def test_erase_leaves_nothing_of_a_job(system: System) -> None:
    gateway = system.gateway(AUDIO_RETENTION_SECS="3600")
    system.worker(AUDIO_RETENTION_SECS="3600")
    running = submit(gateway.http, "long.ogg", LONG)
    refused = gateway.http.delete(f"/jobs/{running}?erase=true")
    assert (refused.status_code, refused.json()["code"]) == (409, "job_running")
    kept, erased = [transcribe(gateway.http, AUDIO / "telephone.wav")["id"] for _ in range(2)]
    assert gateway.http.delete(f"/jobs/{erased}?erase=true").status_code == 204
    assert gateway.http.get(f"/jobs/{erased}").status_code == 404
    assert gateway.http.delete(f"/jobs/{erased}?erase=true").status_code == 404
    assert erased not in {j["id"] for j in gateway.http.get("/jobs").json()["jobs"]}

    async def traces() -> list[str]:
        client = await nats.connect(system.nats.url)
        js, found = client.jetstream(), []
        for stream in await js.streams_info():
            info = await js.stream_info(stream.config.name or "", subjects_filter=">")
            found += [s for s in info.state.subjects or {} if erased in s]
        store = await js.object_store("WHISPER_AUDIO")
        found += [e.name or "" for e in await store.list() if e.name == erased]
        assert kept in {e.name for e in await store.list()}
        await client.close()
        return found

    assert asyncio.run(traces()) == []
    assert gateway.http.get(f"/jobs/{kept}").json()["segments"]


def test_a_poison_job_that_kills_its_worker_while_it_is_prepared_fails_in_the_end(system: System) -> None:
    """The decoder is replaced by a program that kills the worker that started it, but not when that looks whether it works."""
    killing = decoder(system.spool.parent / "decoder", '[ "$1" = check ] || kill -9 $PPID')
    gateway = system.gateway()
    job_id = submit(gateway.http, "poison", TELEPHONE)
    for _ in range(3):
        killed = system.worker(**killing)
        assert killed.wait(30) == -signal.SIGKILL
    system.worker()
    job = finish(gateway.http, job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", ErrorCode.WORKER_CRASHED)
    assert transcribe(gateway.http, AUDIO / "telephone.wav")["status"] == "done"


def test_a_transcript_of_any_size_reaches_everybody(system: System) -> None:
    """Larger than a NATS message (1 MiB): whole over HTTP and SSE; over NATS as an object that is referenced."""
    gateway = system.gateway()
    script = system.script()
    script.plan(job="flood")
    system.scripted_worker(script)
    wait_for_worker(gateway.http)
    receiver = Receiver()
    job = finish(gateway.http, submit(gateway.http, "t.wav", TELEPHONE, webhook_url=receiver.url))
    assert (job["status"], len(job["segments"])) == ("done", 3000)
    assert receiver.next_of("completed")[1] == {"type": "completed", **job}
    receiver.close()
    assert len(msgspec.json.encode(job)) > 2 * 2**20
    assert gateway.http.get(f"/jobs/{job['id']}").json() == job

    async def over_nats() -> Any:
        _, reply = await ask(system, f"whisper.jobs.get.{job['id']}")
        assert (reply["job"]["segments"], reply["result"]) == ([], job["id"])
        client = await nats.connect(system.nats.url)
        store = await client.jetstream().object_store("WHISPER_RESULTS")
        whole = json.loads((await store.get(reply["result"])).data or b"")
        await client.close()
        return whole

    assert asyncio.run(over_nats()) == job
    assert words(job).count("flood") == 3000


def test_two_workers_share_the_queue(system: System) -> None:
    gateway = system.gateway()
    workers = [system.worker(WORKER_ID=f"w{n}") for n in range(2)]
    ids = [submit(gateway.http, "english.flac", (AUDIO / "english.flac").read_bytes()) for _ in range(8)]
    jobs: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda i=i: jobs.append(finish_alone(gateway.url, i))) for i in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [job["status"] for job in jobs] == ["done"] * 8

    def ran() -> list[set[str]]:
        """What each has ended, by its log, which comes a moment after the event."""
        return [{i for i in ids if f"job {i}: done" in w.log.read_text()} for w in workers]

    wait_until(lambda: set.union(*ran()) == set(ids))
    assert not set.intersection(*ran())


def finish_alone(url: str, job_id: str) -> dict[str, Any]:
    with httpx.Client(base_url=url, timeout=60) as http:
        return finish(http, job_id)


@pytest.mark.parametrize("field", ["webhook_events", "webhook_url"])
def test_webhook_fields_are_checked(system: System, field: str) -> None:
    gateway = system.gateway()
    answer = gateway.http.post("/jobs", files={"audio": ("t.wav", TELEPHONE)}, data={field: "nonsense"})
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_timings_say_where_the_time_went(system: System) -> None:
    gateway = system.gateway()
    system.worker()
    cold, warm = (transcribe(gateway.http, AUDIO / "english.mp3") for _ in range(2))
    for job in (cold, warm):
        spent = dict(job["timings"])
        of_the_engine = spent["mel"] + spent["encode"] + spent["tokens"]
        assert 0.5 * spent["engine"] < of_the_engine <= spent["engine"] + 0.001
        assert (
            min(spent[part] for part in ("upload", "fetch", "decode", "plan", "mel", "encode", "tokens")) > 0
        )
        parts = {"queue", "fetch", "decode", "plan", "load", "wait", "engine", "publish"}
        assert spent.keys() == parts | {
            "upload",
            "mel",
            "encode",
            "tokens",
            "windows",
            "generated",
            "fallbacks",
        }
        assert (spent["windows"], spent["fallbacks"]) == (1, 0)
        assert spent["generated"] == sum(len(segment["tokens"]) for segment in job["segments"]) > 5
        created, completed = (datetime.fromisoformat(job[name]) for name in ("created_at", "completed_at"))
        # Some segments are published while the engine goes on: their waits are in both.
        whole = (completed - created).total_seconds()
        assert sum(spent[part] for part in parts - {"publish"}) <= whole + 0.01
    assert cold["timings"]["load"] > 0
    assert warm["timings"]["load"] == 0
