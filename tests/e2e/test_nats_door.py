"""Submitting over NATS with nats-py alone: nothing of ours is imported here, the names are the published contract."""

import asyncio
import base64
import hashlib
import io
import json
import uuid
from typing import Any

import httpx
import nats
from nats.aio.client import Client

from tests.support.http import AUDIO, EXPECTED, transcribe
from tests.support.system import System

NAME = "english.flac"
GREEDY = 1  # beam search draws candidates at random: two jobs of one engine may differ by a time or a word


async def follow(client: Client, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    """(type, body) of the job's events up to its end."""
    js = client.jetstream()
    found: list[tuple[str, dict[str, Any]]] = []
    sub = await js.subscribe(f"whisper.events.job.{job_id}.*", stream="WHISPER_EVENTS", ordered_consumer=True)
    while not found or found[-1][0] not in ("done", "failed", "cancelled"):
        message = await sub.next_msg(timeout=30)
        found.append((message.subject.rsplit(".", 1)[1], json.loads(message.data)))
    await sub.unsubscribe()
    return found


def check(events: list[tuple[str, dict[str, Any]]], http_job: dict[str, Any]) -> None:
    assert [kind for kind, _ in events][:2] == ["queued", "started"]
    assert events[-1][0] == "done"
    record = events[-1][1]["record"]
    assert (record["status"], record["language"]) == ("done", EXPECTED[NAME]["language"])
    assert [body["segment"] for kind, body in events if kind == "segment"] == [
        {**segment, "words": None} for segment in http_job["segments"]
    ]


async def test_raw_chunks_and_one_publish_are_a_job(system: System) -> None:
    gateway = system.gateway()
    system.worker()
    over_http = await asyncio.to_thread(transcribe, gateway.http, AUDIO / NAME, beam_size=str(GREEDY))
    client = await nats.connect(system.nats.url)
    js, audio, job_id, nuid = (
        client.jetstream(),
        (AUDIO / NAME).read_bytes(),
        uuid.uuid4().hex,
        uuid.uuid4().hex,
    )
    chunks = [audio[i : i + 100_000] for i in range(0, len(audio), 100_000)]
    for chunk in chunks:
        await js.publish(f"$O.WHISPER_AUDIO.C.{nuid}", chunk)
    meta = {
        "name": job_id,
        "bucket": "WHISPER_AUDIO",
        "nuid": nuid,
        "size": len(audio),
        "chunks": len(chunks),
        "digest": "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(audio).digest()).decode(),
    }
    subject = f"$O.WHISPER_AUDIO.M.{base64.urlsafe_b64encode(job_id.encode()).decode()}"
    await js.publish(subject, json.dumps(meta).encode(), headers={"Nats-Rollup": "sub"})
    await js.publish(
        f"whisper.jobs.submit.{job_id}",
        json.dumps({"options": {"beam_size": GREEDY}}).encode(),
        headers={"Nats-Msg-Id": job_id},
    )
    check(await follow(client, job_id), over_http)
    seen: httpx.Response = await asyncio.to_thread(gateway.http.get, f"/jobs/{job_id}")
    assert seen.json()["segments"] == over_http["segments"]
    await client.close()


async def test_an_object_that_nats_py_put_is_transcribed_and_ours_is_read_by_its_get(system: System) -> None:
    gateway = system.gateway()
    client = await nats.connect(system.nats.url)
    js, audio = client.jetstream(), (AUDIO / NAME).read_bytes()
    store = await js.object_store("WHISPER_AUDIO")

    answer: httpx.Response = await asyncio.to_thread(
        gateway.http.post, "/jobs", files={"audio": (NAME, audio)}, data={"beam_size": str(GREEDY)}
    )
    ours = answer.json()["job_id"]
    assert (await store.get(ours)).data == audio

    await store.put("their name/ü.flac", io.BytesIO(audio))
    job_id = uuid.uuid4().hex
    body = {"audio": "their name/ü.flac", "options": {"language": "en", "beam_size": GREEDY}, "filename": "x"}
    await js.publish(f"whisper.jobs.submit.{job_id}", json.dumps(body).encode())
    system.worker()
    over_http = (await follow(client, ours))[-1]
    assert over_http[0] == "done"
    job: httpx.Response = await asyncio.to_thread(gateway.http.get, f"/jobs/{ours}")
    check(await follow(client, job_id), job.json())
    await client.close()


async def test_unusable_submissions_do_not_stop_the_worker(system: System) -> None:
    gateway = system.gateway()
    system.worker()
    client = await nats.connect(system.nats.url)
    js = client.jetstream()
    await js.publish("whisper.jobs.submit.bad1", b"not json")
    await js.publish("whisper.jobs.submit.bad2", b'{"options": {"language": "klingon"}}')
    await js.publish("whisper.jobs.submit.a/b", b"{}")
    await js.publish("whisper.jobs.submit.\u00fcber", b"{}")
    await js.publish("whisper.jobs.submit.noaudio", b"{}")
    failed = await follow(client, "noaudio")
    assert failed[-1][1]["record"]["error"]["code"] == "audio_missing"
    job = await asyncio.to_thread(transcribe, gateway.http, AUDIO / NAME)
    assert job["status"] == "done"
    await client.close()


async def test_an_erase_that_waits_holds_up_no_other(system: System) -> None:
    """Erasing a job that has just ended waits for its worker's last word, two seconds at the most."""
    gateway = system.gateway()
    client = await nats.connect(system.nats.url)
    js, waiting = client.jetstream(), [f"waiting-{number}" for number in range(6)]
    for job_id in waiting:  # ended, and still in the queue: their worker has not acknowledged them
        record = {"id": job_id, "status": "done", "created_at": "2026-01-01T00:00:00Z", "request": {}}
        await js.publish(f"$KV.WHISPER_RECORDS.{job_id}", json.dumps(record).encode())
        await js.publish(f"whisper.jobs.submit.{job_id}", b"{}")
    begun = asyncio.get_running_loop().time()
    asked = [client.request(f"whisper.jobs.erase.{job_id}", b"", timeout=20) for job_id in waiting]
    replies = await asyncio.gather(*asked)
    assert {(reply.headers or {}).get("Nats-Service-Error-Code") for reply in replies} == {"409"}
    assert asyncio.get_running_loop().time() - begun < 2 * 3
    assert gateway.status is None
    await client.close()


async def test_what_is_only_published_is_done_without_an_answer(system: System) -> None:
    gateway = system.gateway()
    client = await nats.connect(system.nats.url)
    await client.jetstream().publish("whisper.jobs.submit.j", b"{}")
    for subject in (
        "whisper.jobs.list",
        "whisper.jobs.get.j",
        "whisper.jobs.cancel.j",
        "whisper.jobs.get.none",
    ):
        await client.publish(subject, b"")
    assert [kind for kind, _ in await follow(client, "j")] == ["queued", "cancelled"]
    assert (await client.request("whisper.jobs.get.j", b"", timeout=5)).data
    assert gateway.status is None
    await client.close()


async def test_readers_of_a_result_do_not_meet_a_missing_one(system: System) -> None:
    """A job that is larger than a message is an object, and is written again as it grows."""
    system.gateway()
    client = await nats.connect(system.nats.url)
    js, record = client.jetstream(), {"id": "large", "status": "running", "request": {}}
    record["created_at"] = at = "2026-01-01T00:00:00Z"
    await js.publish("$KV.WHISPER_RECORDS.large", json.dumps(record).encode())

    async def grow(number: int) -> None:
        for index in range(number * 30, number * 30 + 30):
            segment = {"index": index, "start": index, "end": index + 1, "text": "t" * 50_000}
            event = {"type": "segment", "job_id": "large", "at": at, "segment": segment}
            await js.publish("whisper.events.job.large.segment", json.dumps(event).encode())

    async def read() -> int:
        reply = json.loads((await client.request("whisper.jobs.get.large", b"", timeout=20)).data)
        store = await js.object_store("WHISPER_RESULTS")
        return len(json.loads((await store.get(reply["result"])).data or b"")["segments"])

    await grow(0)
    seen = [await read()]
    for number in range(1, 4):
        found = await asyncio.gather(grow(number), *(read() for _ in range(4)))
        seen += [count for count in found if count is not None]
    assert seen[0] == 30
    assert max(seen) <= 120
    assert await read() == 120
    await client.close()
