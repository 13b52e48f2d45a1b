"""Event streams: resuming anywhere, pruned events, clients that are slow or gone, and a thousand of them."""

import asyncio
import json
import signal
import socket
import threading
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import nats
import psutil
import pytest

from broker.connection import connect
from broker.event_log import EventLog
from broker.settings import BrokerSettings
from broker.work_queue import WorkQueue
from schemas.events import Progress, SegmentAdded, Started
from schemas.jobs import JobRequest, Segment
from tests.support.http import AUDIO, events, finish, submit, transcribe
from tests.support.system import Gateway, System

NOW = datetime(2026, 11, 25, tzinfo=UTC)
LONG = (AUDIO / "long.ogg").read_bytes()
MIB = 2**20


def stream(
    http: httpx.Client, job_id: str, last_event_id: str = "", *, by_query: bool = False
) -> httpx.Response:
    """The whole of an event stream that ends."""
    headers = {} if by_query or not last_event_id else {"Last-Event-ID": last_event_id}
    params = {"last_event_id": last_event_id} if by_query else {}
    return http.get(f"/jobs/{job_id}/stream", headers=headers, params=params)


def test_who_has_seen_the_end_is_told_not_to_come_back(system: System) -> None:
    gateway = system.gateway()
    system.worker()
    job_id = transcribe(gateway.http, AUDIO / "telephone.wav")["id"]
    *_, before, last = events(gateway.http, job_id)
    for by_query in (False, True):
        assert stream(gateway.http, job_id, last.id, by_query=by_query).status_code == 204
        rest = stream(gateway.http, job_id, before.id, by_query=by_query)
        assert rest.status_code == 200
        assert rest.text.startswith(f"id: {last.id}\nevent: done\n")
    other = system.gateway()
    assert stream(other.http, job_id, last.id).status_code == 204


def test_nothing_is_lost_or_doubled_over_cuts_and_gateways(system: System) -> None:
    """The client's connection is cut after each event; the gateway is killed now and then; two gateways take turns."""
    gateways = [system.gateway(), system.gateway()]
    system.worker(STRETCH_SECS="30")
    job_id = submit(gateways[0].http, "long.ogg", LONG)
    seen: list[tuple[str, str]] = []
    kind = ""
    for turn in range(200):
        if turn in (5, 15):
            gateways[turn % 2].stop(signal.SIGKILL)
            gateways[turn % 2] = system.gateway()
        last = seen[-1][0] if seen else ""
        for number, event in enumerate(events(gateways[turn % 2].http, job_id, last)):
            seen.append((event.id, event.data))
            kind = event.event
            if number == turn % 3:
                break
        if kind == "done":
            break
    assert kind == "done"
    whole = [(event.id, event.data) for event in events(gateways[0].http, job_id)]
    assert seen == whole


async def prune(system: System, up_to: int) -> None:
    """As expiring does it."""
    client = await nats.connect(system.nats.url)
    await client.jetstream().purge_stream("WHISPER_EVENTS", seq=up_to + 1)
    await client.close()


def parsed(text: str) -> list[tuple[str | None, str, Any]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if fields:
            found.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
    return found


def test_a_snapshot_stands_for_events_that_are_pruned(system: System) -> None:
    gateway = system.gateway()
    system.worker()
    job_id = transcribe(gateway.http, AUDIO / "english.flac")["id"]
    told = list(events(gateway.http, job_id))
    third = next(e for e in told if e.event == "segment")
    asyncio.run(prune(system, int(third.id)))
    left = [e for e in told if int(e.id) > int(third.id)]
    for last in ("", told[0].id):
        [snapshot, *rest] = parsed(stream(gateway.http, job_id, last).text)
        assert snapshot[1] == "snapshot"
        assert snapshot[2]["job"]["status"] == "done"
        assert [r[1] for r in rest] == ["done"]
        assert rest[0][2]["job"]["id"] == job_id
    # Who has seen everything that is pruned needs none.
    assert [r[0] for r in parsed(stream(gateway.http, job_id, third.id).text)] == [e.id for e in left]
    asyncio.run(prune(system, int(told[-1].id)))
    kinds = [r[1] for r in parsed(stream(gateway.http, job_id, told[0].id).text)]
    assert kinds == ["snapshot", "done"]
    assert stream(gateway.http, job_id, told[-1].id).status_code == 204


def test_a_snapshot_of_a_running_job_is_followed_by_what_happens(system: System) -> None:
    gateway = system.gateway()
    script = system.script()
    script.plan(job="hold")
    system.scripted_worker(script)
    job_id = submit(gateway.http, "t.wav", (AUDIO / "telephone.wav").read_bytes())
    first = next(e for e in events(gateway.http, job_id) if e.event == "segment")
    started = int(first.id) - 1
    asyncio.run(prune(system, started))
    seen: list[Any] = []
    reader = threading.Thread(target=lambda: seen.extend(events(gateway.http, job_id)))
    reader.start()
    deadline = time.monotonic() + 10
    while not seen and time.monotonic() < deadline:
        time.sleep(0.01)
    script.go()
    reader.join(20)
    kinds = [e.event for e in seen if e.event != "progress"]
    assert kinds == ["snapshot", "segment", "done"]
    snapshot = json.loads(seen[0].data)["job"]
    assert (snapshot["status"], len(snapshot["segments"])) == ("running", 1)
    assert [s["index"] for s in json.loads(seen[-1].data)["job"]["segments"]] == [0, 1]


async def publish_events(system: System, job_id: str, count: int, size: int = 10) -> None:
    """Events of a job that no worker has."""
    async with connect(BrokerSettings(nats_url=system.nats.url), "test") as (_, js):
        log = EventLog(js)
        for index in range(count):
            segment = Segment(index=index, start=index, end=index + 1, text="x" * size)
            await log.append(SegmentAdded(job_id=job_id, at=NOW, segment=segment))


async def queue_job(system: System, job_id: str) -> None:
    async with connect(BrokerSettings(nats_url=system.nats.url), "test") as (_, js):
        await WorkQueue(js, BrokerSettings(nats_url=system.nats.url)).submit(job_id, JobRequest())
        await EventLog(js).append(Started(job_id=job_id, at=NOW, worker_id="w", attempt=1))


def is_connected(gateway: Gateway, client: socket.socket) -> bool:
    """Whether the gateway still has this client's connection."""
    port = client.getsockname()[1]
    connections = psutil.Process(gateway.pid).net_connections("tcp")
    return any(c.raddr[1:] == (port,) for c in connections)  # () where it listens


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="TCP_USER_TIMEOUT is an option of Linux")
def test_a_client_that_does_not_read_is_dropped_and_costs_nothing(system: System) -> None:
    gateway = system.gateway(SSE_BUFFER="16", SEND_TIMEOUT_SECS="2")
    asyncio.run(queue_job(system, "big"))
    others = httpx.Client(base_url=gateway.url, timeout=60)
    before = psutil.Process(gateway.pid).memory_info().rss
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])))
        deaf.sendall(b"GET /jobs/big/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert deaf.recv(12) == b"HTTP/1.1 200"
        assert is_connected(gateway, deaf)
        seen: list[str] = []

        def follow() -> None:
            last = ""
            while (
                len(seen) < 402
            ):  # it is dropped itself where it is too slow, and goes on behind what it has
                for event in events(others, "big", last):
                    seen.append(event.id)
                    last = event.id
                    if len(seen) == 402:
                        return

        reader = threading.Thread(target=follow)
        reader.start()
        asyncio.run(publish_events(system, "big", 400, size=60_000))  # 24 MB, which no socket's buffer holds
        reader.join(30)
        assert len(seen) == 402
        assert seen == sorted(set(seen), key=int)
        others.close()
        deadline = time.monotonic() + 20
        while is_connected(gateway, deaf):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    after = psutil.Process(gateway.pid).memory_info().rss
    print(f"RSS {before / MIB:.0f} -> {after / MIB:.0f} MiB")
    assert after - before < 64 * MIB


CLIENTS = 1000


@pytest.mark.timeout(180)
def test_a_thousand_clients_get_every_event(system: System) -> None:
    gateway = system.gateway()
    asyncio.run(queue_job(system, "crowd"))
    port = int(gateway.url.rsplit(":", 1)[1])

    async def client(ready: asyncio.Semaphore) -> list[int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /jobs/crowd/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        ids: list[int] = []
        while not ids or ids[-1] != last[0]:
            line = await reader.readline()
            if line.startswith(b"id: "):
                ids.append(int(line[4:]))
                if len(ids) == 2:
                    ready.release()  # queued and started have come: from now on it is live
        writer.close()
        return ids

    last = [0]

    async def run() -> list[list[int]]:
        ready = asyncio.Semaphore(0)
        async with asyncio.timeout(150), connect(BrokerSettings(nats_url=system.nats.url), "test") as (_, js):
            clients = [asyncio.create_task(client(ready)) for _ in range(CLIENTS)]
            for _ in range(CLIENTS):
                await ready.acquire()
            consumers = (await js.stream_info("WHISPER_EVENTS")).state.consumer_count
            assert consumers == 2  # the gateway's one, and the webhooks'
            for percent in range(1, 20):
                await EventLog(js).append(Progress(job_id="crowd", at=NOW, percent=percent))
            last[0] = await EventLog(js).append(Progress(job_id="crowd", at=NOW, percent=20))
            await asyncio.sleep(0)
            return await asyncio.gather(*clients)

    found = asyncio.run(run())
    assert len(found) == CLIENTS
    assert len(found[0]) == 22
    assert all(ids == found[0] for ids in found)


def test_the_end_of_a_large_job_reaches_many_clients_once_each(system: System) -> None:
    gateway = system.gateway()
    script = system.script()
    script.plan(job="flood")
    system.scripted_worker(script)
    job = finish(gateway.http, submit(gateway.http, "t.wav", (AUDIO / "telephone.wav").read_bytes()))
    *_, before, last = events(gateway.http, job["id"])
    ends: list[str] = []

    def follow() -> None:
        with httpx.Client(base_url=gateway.url, timeout=60) as http:
            ends.append(stream(http, job["id"], before.id).text)

    threads = [threading.Thread(target=follow) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ends) == 20
    assert {len(parsed(text)) for text in ends} == {1}
    assert parsed(ends[0])[0][0] == last.id
    assert msgspec.json.encode(parsed(ends[0])[0][2]["job"]) == msgspec.json.encode(job)
