"""Nothing that is said on a subject, or lies in a bucket, stops the system or hides what is good."""

import json
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from broker.object_store import ObjectStore
from schemas import subjects
from tests.support.http import AUDIO, finish, submit, words
from tests.support.interjector import Interjector
from tests.support.jetstream import messages, object_bytes, object_names, publish, with_client
from tests.support.models import wait_for_worker
from tests.support.nats_process import NatsProcess
from tests.support.samples import NONSENSE, samples
from tests.support.system import Gateway, Process, System

SPEECH = (AUDIO / "telephone.wav").read_bytes()
LISTS = ("/health", "/jobs", "/webhooks", "/model/status")
FAST_SWEEP = {"SWEEP_INTERVAL_SECS": "0.2"}

NO_SUBMITTING = """
authorization {
  users: [
    { user: all, password: a }
    { user: gateway, password: g, permissions: { publish: { deny: ["whisper.jobs.submit.>"] } } }
  ]
}
"""

Running = tuple[System, Gateway, Process]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Iterator[Running]:
    system = System(tmp_path_factory.mktemp("poison"), demo_model)
    try:
        worker = system.worker()
        yield system, system.gateway(**FAST_SWEEP), worker
    finally:
        system.close()
        print(system.logs())


def assert_well(running: Running) -> None:
    """Both processes live, every list answers, and a good job is done."""
    _, gateway, worker = running
    job = finish(gateway.http, submit(gateway.http, "a.wav", SPEECH))
    assert (job["status"], bool(words(job))) == ("done", True)
    for path in LISTS:
        answer = gateway.http.get(path)
        assert answer.status_code == 200, (path, answer.text)
    for process in (gateway, worker):
        assert process.status is None, process.log.read_text()[-3000:]


@pytest.mark.parametrize("kind", sorted({sample.kind for sample in samples("x")}))
def test_nonsense_of_every_sort_where_it_is_read(running: Running, kind: str) -> None:
    system = running[0]
    for number, body in enumerate(NONSENSE):
        job_id = f"{kind.replace(' ', '-')}-{number}"
        publish(system.nats.url, *((s.subject, body) for s in samples(job_id) if s.kind == kind))
    assert_well(running)


def test_nonsense_on_subjects_that_are_none_of_ours(running: Running) -> None:
    """Of the right shape for a stream or a bucket, with names that we never make."""
    said = [
        "whisper.jobs.submit.a%b",
        f"whisper.jobs.submit.{'j' * 500}",
        "whisper.events.job.a%b.started",
        "whisper.events.job.x.sparkle",
        "whisper.events.model.w.sparkle",
        "whisper.events.nothing",
        "whisper.webhooks.a%b",
        "whisper.dead.submit.x",
        f"$KV.{subjects.RECORDS_BUCKET}.a.b.c",
        f"$KV.{subjects.WORKERS_BUCKET}.{'w' * 300}",
        f"$O.{subjects.AUDIO_BUCKET}.M.not-base64",
        f"$O.{subjects.AUDIO_BUCKET}.C.nobodys",
        "whisper.jobs.get.a%b",
        "whisper.jobs.cancel.a%b",
        "whisper.jobs.erase.a%b",
        "whisper.model.load",
    ]
    publish(running[0].nats.url, *((subject, body) for subject in said for body in (b"", b"{}", b"\xff")))
    assert_well(running)


def test_a_later_version_is_among_us(running: Running) -> None:
    """Its records, events, deliveries and worker statuses have fields and values that this one does not know."""
    system, gateway, _ = running
    said = []
    for sample in samples("from-later"):
        if sample.kind in ("list request", "submission"):
            continue
        document = json.loads(sample.body)
        said.append((sample.subject, json.dumps(_later(document)).encode()))
    publish(system.nats.url, *said)
    job = gateway.http.get("/jobs/from-later")
    assert (job.status_code, job.json()["status"]) == (200, "unknown"), job.text
    assert "from-later" in [found["id"] for found in gateway.http.get("/jobs?limit=500").json()["jobs"]]
    assert gateway.http.delete("/jobs/from-later").status_code == 409, "nothing may be done to it"
    assert_well(running)


def _later(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {"sparkle": [1], **{name: _later(inner, name) for name, inner in value.items()}}
    if isinstance(value, list):
        return [_later(inner, key) for inner in value]
    new = {"status": "paused", "state": "hibernating", "code": "sparkle", "task": "sing", "v": 2}
    return new.get(key, value)


def test_what_cannot_be_used_is_a_dead_letter_with_its_reason(running: Running) -> None:
    system = running[0]
    before = messages(system.nats.url, subjects.DEAD_STREAM)
    publish(system.nats.url, ("whisper.jobs.submit.dead-1", b'{"filename":"\xff"}'))
    assert_well(running)
    assert messages(system.nats.url, subjects.DEAD_STREAM) > before
    assert messages(system.nats.url, subjects.JOBS_STREAM) == 0


def test_a_dead_letter_leads_nowhere_but_to_our_queues(running: Running) -> None:
    """Anybody may write one, and requeueing publishes with the operator's rights."""
    system = running[0]

    async def forge(client: Client) -> int:
        headers = {subjects.ORIGIN_HEADER: "whisper.model.unload", subjects.REASON_HEADER: "r"}
        ack = await client.jetstream().publish("whisper.dead.submit.x", b"{}", headers=headers)
        return int(ack.seq)

    seq = with_client(system.nats.url, forge)
    refused = system.command("dead", "requeue", str(seq))
    assert refused.returncode == 1
    assert "no queue" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_object_that_claims_everybodys_chunks_is_nobodys(running: Running) -> None:
    """The sweep must not purge what a meta with a wildcard names, nor a worker read it."""
    system, gateway, worker = running
    worker.send(signal.SIGSTOP)  # so that the queued job's audio stays
    try:
        good = submit(gateway.http, "a.wav", SPEECH)
        meta = {"name": "x", "size": 10, "chunks": 1, "digest": "SHA-256=x"}
        publish(
            system.nats.url,
            (f"$O.{subjects.AUDIO_BUCKET}.M.eA==", json.dumps({**meta, "nuid": "*"}).encode()),
            (f"$O.{subjects.AUDIO_BUCKET}.M.eQ==", json.dumps({**meta, "nuid": ">"}).encode()),
            ("whisper.jobs.submit.thief", b'{"audio":"x"}'),
        )
        # Its audio is nobody's: cancelling it must not take away the chunks of others.
        assert gateway.http.delete("/jobs/thief").status_code == 200
    finally:
        worker.send(signal.SIGCONT)
    assert words(finish(gateway.http, good))


@pytest.mark.parametrize(
    "path",
    [
        "/model/status?worker_id=" + "w" * 5000,
        "/model/status?worker_id=a.b",
        "/model/status?worker_id=%00",
        "/model/status?worker_id=*",
        "/model/status?worker_id=a%20b",
    ],
)
def test_what_becomes_part_of_a_subject_is_checked(running: Running, path: str) -> None:
    answer = running[1].http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")


def test_lists_of_any_size_fit_into_messages(running: Running) -> None:
    system = running[0]
    prompt = "p" * 1000

    async def fill(client: Client) -> int:
        js = client.jetstream()
        for number in range(1200):
            record = {
                "id": f"many-{number}",
                "status": "done",
                "created_at": "2026-01-01T00:00:00Z",
                "request": {"options": {"prompt": prompt}},
            }
            subject = f"$KV.{subjects.RECORDS_BUCKET}.many-{number}"
            await js.publish_async(subject, json.dumps(record).encode())
        await js.publish_async_completed()
        seen, cursor = 0, ""
        while True:
            asked = {"limit": 500, **({"cursor": cursor} if cursor else {})}
            reply = await client.request("whisper.jobs.list", json.dumps(asked).encode(), timeout=20)
            page = json.loads(reply.data)
            assert page["jobs"], "a page without jobs would never end"
            seen += sum(job["id"].startswith("many-") for job in page["jobs"])
            cursor = page["next_cursor"]
            if not cursor:
                return int(seen)

    assert with_client(system.nats.url, fill) == 1200


def test_a_connection_that_is_closed_for_good_ends_the_process(system: System) -> None:
    """nats-py closes it on almost any error that the server tells, and does not connect again."""
    between = Interjector(system.nats.url)
    try:
        gateway = system.gateway(NATS_URL=between.url)
        processes = [gateway, system.worker(NATS_URL=between.url)]
        wait_for_worker(gateway.http)
        between.say(b"-ERR 'Maximum Control Line Exceeded'\r\n")
        for process in processes:
            assert process.wait(10) == 1
            log = process.log.read_text()
            assert "closed for good" in log
            assert "Traceback" not in log, log
    finally:
        between.close()


def test_what_this_user_may_not_do_is_refused_and_not_called_unavailable(
    tmp_path: Path, demo_model: Path
) -> None:
    system = System(tmp_path, demo_model, NatsProcess(tmp_path / "nats", NO_SUBMITTING))
    try:
        http = system.gateway(NATS_URL=system.nats.url.replace("//", "//gateway:g@")).http
        refused = http.post("/jobs", files={"audio": ("a.wav", SPEECH)})
        assert (refused.status_code, refused.json()["code"]) == (502, "broker_refused"), refused.text
        assert object_names(system.nats.url.replace("//", "//all:a@"), subjects.AUDIO_BUCKET) == []
    finally:
        system.close()
        print(system.logs())


def test_what_lies_in_the_bucket_and_is_nobodys_is_swept_and_nothing_else(running: Running) -> None:
    """Chunks below any name, metas that are none; and a subject that stands for everybody's is not taken literally."""
    system = running[0]
    bucket = subjects.AUDIO_BUCKET

    async def fill(client: Client) -> tuple[int, list[str]]:
        js = client.jetstream()
        store = ObjectStore(js, bucket)
        await store.put("good", _pieces())
        for subject in ("C.deep.er", "C.flat", "C.*", "M.bm8", "M.not.a.name", "M.*"):
            await client.publish(f"$O.{bucket}.{subject}", b"x")
        await client.flush()
        await js.publish(f"$O.{bucket}.C.last", b"x")
        return await store.sweep(datetime.now(UTC) + timedelta(minutes=1)), [
            info.name for info, _ in await store.objects()
        ]

    swept, left = with_client(system.nats.url, fill)
    assert swept >= 5
    assert "good" in left
    assert object_bytes(system.nats.url, bucket, "good") == b"good"


async def _pieces() -> AsyncIterator[bytes]:
    yield b"good"
