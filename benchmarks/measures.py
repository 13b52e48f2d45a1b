"""What is measured: each function gives a row, against a bare baseline in the same run."""

import asyncio
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import httpx
import nats
import psutil
from nats.js import JetStreamContext

from benchmarks.harness import (
    AUDIO,
    MIB,
    Bench,
    Row,
    bare_engine,
    decoded,
    percentile,
    row,
    run_bare,
    speech,
)
from broker.connection import BrokerSettings, connect
from broker.event_log import EventLog
from broker.object_store import ObjectStore
from broker.work_queue import WorkQueue
from gpu_worker.audio import decode, ffmpeg
from schemas.events import Progress
from schemas.jobs import JobRequest
from schemas.subjects import AUDIO_BUCKET

JOBS = 20
GIB = 1024 * MIB
IDLE = re.compile(r"whisper_full after ([0-9.]+) s of idling")


def back_to_back(bench: Bench) -> list[Row]:
    """20 jobs of 10 to 30 s, from the first submit to the last end; and how long the engine idles between two."""
    files = [speech(10 + number) for number in range(JOBS)]

    async def bare() -> float:
        pcms = [await decoded(content, bench.folder, f"bare{n}") for n, content in enumerate(files)]
        async with bare_engine(bench.model) as engine:
            await run_bare(engine, *pcms[0])
            begun = time.monotonic()
            for pcm, samples in pcms:
                await run_bare(engine, pcm, samples)
            return time.monotonic() - begun

    ratios, gaps = [], []
    for _ in range(3):
        baseline = asyncio.run(bare())
        seen = bench.worker.log.stat().st_size
        begun = time.monotonic()
        ids = [bench.submit(content, vad="false") for content in files]
        for job_id in ids:
            bench.finish(job_id)
        ratios.append((time.monotonic() - begun) / baseline)
        log = bench.worker.log.read_bytes()[seen:].decode(errors="replace")
        gaps += [float(secs) * 1000 for secs in IDLE.findall(log)[1:]]
    return [
        row(f"{JOBS} back-to-back jobs of 10-30 s", "bare engine, PCM decoded", ratios, at_most=1.05),
        row("engine idle between two queued jobs, p95", "-", [percentile(gaps, 0.95)], at_most=10, unit="ms",
            note=f"median {statistics.median(gaps):.1f} ms of {len(gaps)}"),
    ]  # fmt: skip


def one_tiny_job(bench: Bench) -> list[Row]:
    content = (AUDIO / "telephone.wav").read_bytes()

    async def bare() -> list[float]:
        pcm, samples = await decoded(content, bench.folder, "tiny")
        async with bare_engine(bench.model) as engine:
            times = []
            for _ in range(15):
                begun = time.monotonic()
                await run_bare(engine, pcm, samples)
                times.append(time.monotonic() - begun)
            return times[5:]

    baseline = statistics.median(asyncio.run(bare()))
    times = []
    for _ in range(25):
        begun = time.monotonic()
        bench.finish(bench.submit(content, vad="false"))
        times.append(time.monotonic() - begun)
    added = (statistics.median(times[5:]) - baseline) * 1000
    return [
        row("one tiny job: submit to done at an SSE client, p50", "bare engine call", [added], at_most=40, unit="ms more",
            note=f"bare {baseline * 1000:.0f} ms")
    ]  # fmt: skip


def _form(size: int) -> "Callable[[], object]":
    piece = os.urandom(MIB)

    def body() -> object:
        yield b'--x\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        for _ in range(size // MIB):
            yield piece
        yield b"\r\n--x--\r\n"

    return body


def upload_and_fetch(bench: Bench) -> list[Row]:
    """1 GiB in and out, against nats-py's own object store."""
    path, target = bench.folder / "gib", bench.folder / "out"
    with path.open("wb") as file:
        piece = os.urandom(MIB)
        for _ in range(1024):
            file.write(piece)

    async def nats_put(js: JetStreamContext) -> float:
        store = await js.object_store(AUDIO_BUCKET)
        begun = time.monotonic()
        with path.open("rb") as file:
            await store.put("theirs", file)
        return GIB / MIB / (time.monotonic() - begun)

    async def nats_get(js: JetStreamContext) -> float:
        store = await js.object_store(AUDIO_BUCKET)
        begun = time.monotonic()
        with target.open("wb") as file:
            await store.get("theirs", writeinto=file)
        return GIB / MIB / (time.monotonic() - begun)

    async def our_get(js: JetStreamContext) -> float:
        begun = time.monotonic()
        await ObjectStore(js, AUDIO_BUCKET).get_to_file("theirs", target)
        return GIB / MIB / (time.monotonic() - begun)

    async def peers() -> tuple[float, float, float]:
        async with connect(BrokerSettings(nats_url=bench.system.nats.url), "bench") as (_, js):
            put = await nats_put(js)
            theirs, ours = await nats_get(js), await our_get(js)
            await ObjectStore(js, AUDIO_BUCKET).delete("theirs")
            return put, theirs, ours

    gateway, peak, stop = psutil.Process(bench.gateway.pid), 0, threading.Event()
    before = gateway.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.05):
            peak = max(peak, gateway.memory_info().rss)

    puts, gets, notes = [], [], []
    for _ in range(3):
        put, theirs, ours = asyncio.run(peers())
        watcher = threading.Thread(target=watch)
        watcher.start()
        begun = time.monotonic()
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = bench.http.post("/jobs", content=_form(GIB)(), headers=headers, timeout=600)  # type: ignore[arg-type] # an iterator
        rate = GIB / MIB / (time.monotonic() - begun)
        stop.set()
        watcher.join()
        stop.clear()
        bench.http.delete(f"/jobs/{answer.json()['job_id']}")
        puts.append(rate / put)
        gets.append(ours / theirs)
        notes.append(f"{rate:.0f} to {put:.0f}, {ours:.0f} to {theirs:.0f} MiB/s")
    return [
        row(
            "upload of 1 GiB through POST /jobs",
            "nats-py ObjectStore.put",
            puts,
            at_least=2,
            note="; ".join(notes),
        ),
        row("gateway's growth meanwhile", "-", [(peak - before) / MIB], at_most=32, unit="MiB"),
        row("worker's fetch of 1 GiB", "nats-py ObjectStore.get(writeinto=)", gets, at_least=5),
    ]


def ffmpeg_decode(bench: Bench) -> list[Row]:
    """An hour of MP3."""
    mp3, pcm = bench.folder / "hour.mp3", bench.folder / "hour.pcm"
    loop = ["-stream_loop", "-1", "-i", str(AUDIO / "long.ogg"), "-t", "3600", "-b:a", "64k", str(mp3)]
    subprocess.run([ffmpeg(), "-v", "error", "-y", *loop], check=True)
    bare = [
        ffmpeg(),
        "-v",
        "error",
        "-y",
        "-i",
        str(mp3),
        "-ac",
        "1",
        "-ar",
        "16000",
        "-f",
        "f32le",
        str(pcm),
    ]
    ratios = []
    for _ in range(3):
        begun = time.monotonic()
        subprocess.run(bare, check=True)
        baseline = time.monotonic() - begun
        begun = time.monotonic()
        asyncio.run(decode(mp3, pcm, timeout_secs=600, max_secs=1e6))
        ratios.append((time.monotonic() - begun) / baseline)
    pcm.unlink()
    return [row("decode of 1 h of MP3", "bare ffmpeg", ratios, at_most=1.05)]


def memory_of_long_files(bench: Bench) -> list[Row]:
    """Worker and engine over 10 minutes and over 10 hours. Most of the 10 hours is silence: on this CPU the engine would
    need an hour for them; decoding, looking for speech and planning see all of it."""

    def peak_of(seconds: int) -> float:
        path = bench.folder / "long.flac"
        pad = ["-af", f"apad=whole_dur={seconds}", "-ar", "16000", "-ac", "1", str(path)]
        subprocess.run([ffmpeg(), "-v", "error", "-y", "-i", str(AUDIO / "long.ogg"), *pad], check=True)
        worker = psutil.Process(bench.worker.pid)
        peak, stop = 0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not stop.wait(0.1):
                engines = [c for c in worker.children() if "gpu_worker.engine" in " ".join(c.cmdline())]
                peak = max(peak, sum(p.memory_info().rss for p in [worker, *engines]))

        watcher = threading.Thread(target=watch)
        watcher.start()
        job = bench.finish(bench.submit(path.read_bytes()))
        stop.set()
        watcher.join()
        if job["status"] != "done":
            raise RuntimeError(str(job["error"]))
        return peak / MIB

    short, long = peak_of(600), peak_of(36_000)
    return [
        row("peak RSS of worker and engine, 10 h file", "10 min file", [long - short], at_most=64, unit="MiB more",
            note=f"{short:.0f} MiB for 10 min")
    ]  # fmt: skip


def event_streams(bench: Bench) -> list[Row]:
    """1,000 clients on one gateway, 10 events a second."""
    clients, count, port = 1000, 100, int(bench.gateway.url.rsplit(":", 1)[1])
    sent: dict[int, float] = {}
    gateway = psutil.Process(bench.gateway.pid)

    async def client(delays: list[float], ready: asyncio.Semaphore, last: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /jobs/crowd/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        seen = 0
        while True:
            line = await reader.readline()
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
            await queue.submit("crowd", JobRequest())
            before, delays = gateway.memory_info().rss, list[float]()
            ready = asyncio.Semaphore(0)
            tasks = [asyncio.create_task(client(delays, ready, count)) for _ in range(clients)]
            for _ in tasks:
                await ready.acquire()
            grown = gateway.memory_info().rss - before
            from datetime import UTC, datetime

            for number in range(1, count + 1):
                sent[number] = time.monotonic()
                await EventLog(js).append(Progress(job_id="crowd", at=datetime.now(UTC), percent=number))
                await asyncio.sleep(0.1)
            seen = sum(await asyncio.gather(*tasks))
            await js.purge_stream("WHISPER_JOBS", subject="whisper.jobs.submit.crowd")
            await js._nc.request("$JS.API.CONSUMER.PAUSE.WHISPER_JOBS.gpu-worker", b"{}")
            return delays, grown / clients / 1024, clients * count - seen

    delays, kib, lost = asyncio.run(run())
    return [
        row("SSE, 1,000 clients, 10 events/s: delivery delay, p99", "-", [percentile(delays, 0.99) * 1000], at_most=250,
            unit="ms", note=f"{lost} of {clients * count} lost; the clients run on the same two cores"),
        row("gateway's memory per SSE client", "-", [kib], at_most=64, unit="KiB"),
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
    import socket

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
    return [row("submit rate, 1 KiB audio, 16 clients", "bare HTTP server", ratios, at_least=0.25, note=note)]


def cancel(bench: Bench) -> list[Row]:
    """From DELETE to the cancelled event, and to an engine that is free."""
    content, times = (AUDIO / "long.ogg").read_bytes(), []
    for _ in range(20):
        job_id = bench.submit(content)
        with bench.http.stream("GET", f"/jobs/{job_id}/stream") as answer:
            begun = 0.0
            for line in answer.iter_lines():
                if line == "event: segment" and not begun:
                    begun = time.monotonic()
                    httpx.delete(f"{bench.gateway.url}/jobs/{job_id}")
                elif line == "event: cancelled":
                    times.append((time.monotonic() - begun) * 1000)
    value = percentile(times, 0.95)
    return [row("cancel of a running job: DELETE to cancelled, p95", "-", [value], at_most=300, unit="ms")]


def idle(bench: Bench) -> list[Row]:
    """CPU of gateway and worker with the model unloaded."""
    bench.http.post("/model/unload?force=true")
    while bench.http.get("/model/status").json()["state"] != "unloaded":
        time.sleep(0.1)
    time.sleep(1)
    processes = [psutil.Process(bench.gateway.pid), psutil.Process(bench.worker.pid)]

    def spent() -> float:
        return sum(sum(p.cpu_times()[:2]) for p in processes)

    before, begun = spent(), time.monotonic()
    time.sleep(20)
    share = 100 * (spent() - before) / (time.monotonic() - begun)
    return [row("idle: CPU of gateway and worker", "one core", [share], at_most=0.5, unit="%")]


def start(bench: Bench) -> list[Row]:
    """`up` until /health/ready says yes."""
    import socket

    times = []
    for number in range(3):
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            port = reserved.getsockname()[1]
        env = {
            **os.environ, "PORT": str(port), "NATS_PORT": "-1", "DATA_DIR": str(bench.folder / f"up{number}"),
            "WHISPER_MODEL": "demo", "WHISPER_MODEL_PATH": str(bench.model),
        }  # fmt: skip
        begun = time.monotonic()
        up = subprocess.Popen(
            [sys.executable, "-m", "standalone.cli", "up"], env=env, stderr=subprocess.DEVNULL
        )
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.02)
        times.append(time.monotonic() - begun)
        up.terminate()
        up.wait(20)
    return [row("start: `up` to ready to accept", "-", times, at_most=2, unit="s")]


ALL: list[Callable[[Bench], list[Row]]] = [
    back_to_back, one_tiny_job, upload_and_fetch, ffmpeg_decode, event_streams, submit_rate, cancel,
    memory_of_long_files, idle, start,
]  # fmt: skip
