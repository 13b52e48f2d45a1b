"""The system itself: at rest, and while it starts."""

import os
import socket
import subprocess
import sys
import time

import httpx
import psutil

from benchmarks.harness import Bench, Row, at_most, row


def idle(bench: Bench) -> list[Row]:
    """CPU of gateway and worker with the model unloaded."""
    bench.http.post("/model/unload?force=true")
    while bench.http.get("/model/status").json()["state"] != "unloaded":
        time.sleep(0.1)
    time.sleep(1)
    processes = [bench.gateway_process, psutil.Process(bench.worker.pid)]

    def spent() -> float:
        return sum(sum(p.cpu_times()[:2]) for p in processes)

    before, begun = spent(), time.monotonic()
    time.sleep(20)
    share = 100 * (spent() - before) / (time.monotonic() - begun)
    return [row("idle: CPU of gateway and worker", "one core", [share], at_most(0.5), unit="%")]


def start(bench: Bench) -> list[Row]:
    """`up` until /health/ready says yes."""
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
    return [row("start: `up` to ready to accept", "-", times, at_most(2), unit="s")]
