"""Many clients on one gateway."""

import asyncio
import socket
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime

import httpx
import nats

from benchmarks.harness import Bench, Row, at_least, at_most, percentile, row
from broker.connection import connect
from broker.event_log import EventLog
from broker.settings import BrokerSettings
from broker.work_queue import WorkQueue
from schemas.events import Progress
from schemas.jobs import JobRequest


def event_streams(bench: Bench) -> list[Row]:
    """1,000 clients on one gateway, 10 events a second."""
    clients, count, port = 1000, 100, int(bench.gateway.url.rsplit(":", 1)[1])
    sent: dict[int, float] = {}
    job_id = f"crowd-{uuid.uuid4().hex}"
    gateway = bench.gateway_process

    async def client(delays: list[float], ready: asyncio.Semaphore, last: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /jobs/%b/stream HTTP/1.1\r\nHost: x\r\n\r\n" % job_id.encode())
        seen = 0
        while True:
            if not (line := await reader.readline()):
                raise ConnectionError("the gateway has closed an event stream")
            if line.startswith(b"event: queued"):
                ready.release()
            elif line.startswith(b'data: {"type":"progress"'):
                number = int(line.split(b'"percent":')[1].rstrip(b"}\n\r"))
                delays.append(time.monotonic() - sent[number])
                seen += 1
                if number == last:
                    break
        writer.close()
        return seen

    async def run() -> tuple[list[float], float, int]:
        async with connect(BrokerSettings(nats_url=bench.system.nats.url), "bench") as (_, js):
            queue = WorkQueue(js, BrokerSettings())
            # Nobody runs it: its consumer is paused until the clients have seen everything.
            await js._nc.request(
                "$JS.API.CONSUMER.PAUSE.WHISPER_JOBS.gpu-worker", b'{"pause_until":"2100-01-01T00:00:00Z"}'
            )
            await queue.submit(job_id, JobRequest())
            before, delays = gateway.memory_info().rss, list[float]()
            ready = asyncio.Semaphore(0)
            tasks = [asyncio.create_task(client(delays, ready, count)) for _ in range(clients)]
            for _ in tasks:
                await ready.acquire()
            grown = gateway.memory_info().rss - before
            for number in range(1, count + 1):
                sent[number] = time.monotonic()
                await EventLog(js).append(Progress(job_id=job_id, at=datetime.now(UTC), percent=number))
                await asyncio.sleep(0.1)
            seen = sum(await asyncio.gather(*tasks))
            await js.purge_stream("WHISPER_JOBS", subject=f"whisper.jobs.submit.{job_id}")
            await js._nc.request("$JS.API.CONSUMER.PAUSE.WHISPER_JOBS.gpu-worker", b"{}")
            return delays, grown / clients / 1024, clients * count - seen

    delays, kib, lost = asyncio.run(run())
    return [
        row("SSE, 1,000 clients, 10 events/s: delivery delay, p99", "-", [percentile(delays, 0.99) * 1000], at_most(250),
            unit="ms", note=f"{lost} of {clients * count} lost; the clients run on the same two cores"),
        row("gateway's memory per SSE client", "-", [kib], at_most(64), unit="KiB"),
    ]  # fmt: skip


BARE_SERVER = """
import sys
from quart import Quart
from hypercorn.asyncio import serve
from hypercorn.config import Config
import asyncio, uvloop
app = Quart("bare")
@app.post("/jobs")
async def post():
    from quart import request
    await request.data
    return {"job_id": "x"}, 202
config = Config(); config.bind = [f"127.0.0.1:{sys.argv[1]}"]; config.errorlog = None
asyncio.Runner(loop_factory=uvloop.new_event_loop).run(serve(app, config))
"""


def submit_rate(bench: Bench) -> list[Row]:
    """1 KiB of audio from 16 clients at once."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    bare = subprocess.Popen([sys.executable, "-c", BARE_SERVER, str(port)], stderr=subprocess.DEVNULL)

    async def rate(url: str) -> float:
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:

            async def client() -> None:
                for _ in range(25):
                    answer = await http.post("/jobs", files={"audio": ("a", b"x" * 1024)})
                    answer.raise_for_status()

            begun = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(16):
                    tasks.create_task(client())
            return 16 * 25 / (time.monotonic() - begun)

    async def prepare(body: bytes) -> None:
        client = await nats.connect(bench.system.nats.url)
        await client.request("$JS.API.CONSUMER.PAUSE.WHISPER_JOBS.gpu-worker", body)
        if body == b"{}":
            await client.jetstream().purge_stream("WHISPER_JOBS")
        await client.close()

    try:
        asyncio.run(prepare(b'{"pause_until":"2100-01-01T00:00:00Z"}'))
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        ratios, notes = [], []
        for _ in range(3):
            theirs, ours = asyncio.run(rate(f"http://127.0.0.1:{port}")), asyncio.run(rate(bench.gateway.url))
            ratios.append(ours / theirs)
            notes.append(f"{ours:.0f} to {theirs:.0f} /s")
        asyncio.run(prepare(b"{}"))
    finally:
        bare.kill()
        bare.wait()
    note = "; ".join(notes) + "; client and server share two cores"
    return [
        row("submit rate, 1 KiB audio, 16 clients", "bare HTTP server", ratios, at_least(0.25), note=note)
    ]
