"""What a job costs beside the engine itself."""

import asyncio
import re
import statistics
import subprocess
import threading
import time

import httpx
import psutil

from benchmarks import peers
from benchmarks.harness import (
    AUDIO,
    MIB,
    Bench,
    Row,
    at_most,
    bare_engine,
    decoded,
    percentile,
    ratios,
    row,
    run_bare,
    speech,
)
from tests.support.ffmpeg import ffmpeg

JOBS, ROUNDS = 20, 3
IDLE = re.compile(r"whisper_full after ([0-9.]+) s of idling")


def back_to_back(bench: Bench) -> list[Row]:
    """20 jobs of 10 to 30 s, from the first submit to the last end; and how long the engine idles between two."""
    files = [speech(10 + number) for number in range(JOBS)]
    alone, service, server, cli = list[float](), list[float](), list[float](), list[float]()
    gaps = list[float]()
    with peers.whisper_server(bench) as post:
        for _ in range(ROUNDS):
            alone.append(asyncio.run(_bare(bench, files)))
            service.append(_through_the_service(bench, files, gaps))
            if post is not None:
                server.append(peers.one_after_the_other(post, files))
            if peers.WHISPER_CLI:
                cli.append(peers.whisper_cli(bench, files))
    name = f"{JOBS} back-to-back jobs of 10-30 s"
    found = [
        row(name, "bare engine, PCM decoded", ratios(service, alone), at_most(1.05)),
        row("engine idle between two queued jobs, p95", "-", [percentile(gaps, 0.95)], at_most(10), unit="ms",
            note=f"median {statistics.median(gaps):.1f} ms of {len(gaps)}"),
    ]  # fmt: skip
    if server:
        found.append(row(name, "whisper-server", ratios(service, server), at_most(0.95)))
    if cli:
        found.append(row(name, "whisper-cli, all files in one call", ratios(service, cli)))
    return found


async def _bare(bench: Bench, files: list[bytes]) -> float:
    pcms = [await decoded(content, bench.folder, f"bare{n}") for n, content in enumerate(files)]
    async with bare_engine(bench.model) as engine:
        await run_bare(engine, *pcms[0])
        begun = time.monotonic()
        for pcm, samples in pcms:
            await run_bare(engine, pcm, samples)
        return time.monotonic() - begun


def _through_the_service(bench: Bench, files: list[bytes], gaps: list[float]) -> float:
    seen = bench.worker.log.stat().st_size
    begun = time.monotonic()
    ids = [bench.submit(content, vad="false") for content in files]
    for job_id in ids:
        bench.finish(job_id)
    secs = time.monotonic() - begun
    log = bench.worker.log.read_bytes()[seen:].decode(errors="replace")
    gaps += [float(found) * 1000 for found in IDLE.findall(log)[1:]]
    return secs


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
        row("one tiny job: submit to done at an SSE client, p50", "bare engine call", [added], at_most(40), unit="ms more",
            note=f"bare {baseline * 1000:.0f} ms")
    ]  # fmt: skip


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
    return [row("cancel of a running job: DELETE to cancelled, p95", "-", [value], at_most(300), unit="ms")]


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
        row("peak RSS of worker and engine, 10 h file", "10 min file", [long - short], at_most(64), unit="MiB more",
            note=f"{short:.0f} MiB for 10 min")
    ]  # fmt: skip
