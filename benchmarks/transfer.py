"""Bytes in and out: uploads, the object store, the decoder."""

import asyncio
import http.client
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable
from pathlib import Path

import psutil

from benchmarks.harness import AUDIO, MIB, Bench, Row, at_least, at_most, ratios, row
from broker.connection import connect
from broker.object_store import ObjectStore
from broker.settings import BrokerSettings
from gpu_worker.audio.decoding import decode
from schemas.subjects import AUDIO_BUCKET
from tests.support.ffmpeg import carried, ffmpeg, on_path

GIB, ROUNDS = 1024 * MIB, 3
BOUNDARY = b"------------------------d74496d66958873e"
"""As curl makes them."""


def upload_and_fetch(bench: Bench) -> list[Row]:
    """1 GiB in and out, against nats-py's own object store."""
    path = bench.folder / "gib"
    write_random(path)
    gateway = bench.gateway_process
    before = gateway.memory_info().rss
    uploads, puts, ours, theirs, peaks = (
        list[float](),
        list[float](),
        list[float](),
        list[float](),
        list[float](),
    )
    for _ in range(ROUNDS):
        put, get, our_get = asyncio.run(_object_store(bench, path))
        puts.append(put)
        theirs.append(get)
        ours.append(our_get)
        rate, peak = _watched_upload(bench, path, gateway)
        uploads.append(rate)
        peaks.append((peak - before) / MIB)
    return [
        row("upload of 1 GiB through POST /jobs", "nats-py ObjectStore.put", ratios(uploads, puts), at_least(2),
            note=_rates(uploads, puts)),
        row("gateway's growth meanwhile", "-", [max(peaks)], at_most(32), unit="MiB"),
        row("worker's fetch of 1 GiB", "nats-py ObjectStore.get(writeinto=)", ratios(ours, theirs), at_least(5),
            note=_rates(ours, theirs)),
    ]  # fmt: skip


def write_random(path: Path) -> None:
    piece = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(GIB // MIB):
            file.write(piece)


async def _object_store(bench: Bench, path: Path) -> tuple[float, float, float]:
    """MiB/s of nats-py's put and get and of our get."""

    async def rate(work: Awaitable[object]) -> float:
        begun = time.monotonic()
        await work
        return GIB / MIB / (time.monotonic() - begun)

    async with connect(BrokerSettings(nats_url=bench.system.nats.url), "bench") as (_, js):
        store, target = await js.object_store(AUDIO_BUCKET), bench.folder / "out"
        with path.open("rb") as file:
            put = await rate(store.put("theirs", file))
        with target.open("wb") as sink:
            get = await rate(store.get("theirs", writeinto=sink))
        our_get = await rate(ObjectStore(js, AUDIO_BUCKET).get_to_file("theirs", target))
        await ObjectStore(js, AUDIO_BUCKET).delete("theirs")
    return put, get, our_get


def upload(bench: Bench, path: Path) -> float:
    """MiB/s. By a client that costs next to nothing: it shares the cores with what is measured."""
    head = b'--%b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n' % BOUNDARY
    tail = b"\r\n--%b--\r\n" % BOUNDARY
    size = len(head) + path.stat().st_size + len(tail)
    request = (
        b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=%b\r\n"
        b"Content-Length: %d\r\n\r\n" % (BOUNDARY, size)
    )
    port = int(bench.gateway.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock, path.open("rb") as file:
        begun = time.monotonic()
        sock.sendall(request + head)
        sock.sendfile(file)
        sock.sendall(tail)
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        body = json.loads(answer.read())
        rate = path.stat().st_size / MIB / (time.monotonic() - begun)
    bench.http.delete(f"/jobs/{body['job_id']}").raise_for_status()
    return rate


def _watched_upload(bench: Bench, path: Path, gateway: psutil.Process) -> tuple[float, int]:
    """MiB/s, and the gateway's highest resident size."""
    peak, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.05):
            peak = max(peak, gateway.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return upload(bench, path), peak
    finally:
        stop.set()
        watcher.join()


def _rates(ours: list[float], theirs: list[float]) -> str:
    pairs = zip(ours, theirs, strict=True)
    return "; ".join(f"{one:.0f} to {other:.0f}" for one, other in pairs) + " MiB/s"


def decode_of_an_hour(bench: Bench) -> list[Row]:
    """An hour of MP3, against each ffmpeg that is here."""
    mp3, pcm = bench.folder / "hour.mp3", bench.folder / "hour.pcm"
    loop = ["-stream_loop", "-1", "-i", str(AUDIO / "long.ogg"), "-t", "3600", "-b:a", "64k", str(mp3)]
    subprocess.run([ffmpeg(), "-v", "error", "-y", *loop], check=True)
    peers = {"bare ffmpeg 9 of imageio-ffmpeg": carried(), "bare ffmpeg on PATH": on_path()}
    return [
        row("decode of 1 h of MP3", name, _decode_against(program, mp3, pcm), at_most(1.05))
        for name, program in peers.items()
        if program is not None
    ]


def _decode_against(program: str, mp3: Path, pcm: Path) -> list[float]:
    as_ours = ["-i", str(mp3), "-ac", "1", "-ar", "16000", "-f", "f32le", str(pcm)]
    found = []
    for _ in range(3):
        begun = time.monotonic()
        subprocess.run([program, "-v", "error", "-y", *as_ours], check=True)
        baseline = time.monotonic() - begun
        begun = time.monotonic()
        asyncio.run(decode(mp3, pcm.parent))
        found.append((time.monotonic() - begun) / baseline)
    pcm.unlink()
    return found
