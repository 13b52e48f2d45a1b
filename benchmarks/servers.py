"""`python -m benchmarks.servers [NAME...]`: the gateway under several HTTP servers, for docs/adr/0005.

uvicorn, httptools and granian must be importable: `pip install --target DIR uvicorn httptools granian`, PYTHONPATH=DIR.
"""

import statistics
import sys
import time
from pathlib import Path

import httpx
import psutil

from benchmarks import gateway, transfer
from benchmarks.gateway_under import SERVERS
from benchmarks.harness import Bench, bench, machine

UPLOADS, REST_SECS = 5, 10


def wakeups(process: psutil.Process) -> int:
    """How often the process has gone to sleep by itself."""
    return sum(process.num_ctx_switches())


def resting(running: Bench) -> float:
    """Context switches per second of a gateway that nobody asks for anything."""
    before, begun = wakeups(running.gateway_process), time.monotonic()
    time.sleep(REST_SECS)
    return (wakeups(running.gateway_process) - before) / (time.monotonic() - begun)


def measured(running: Bench, path: Path) -> list[str]:
    rest = resting(running)
    process = running.gateway_process
    before = sum(process.cpu_times()[:2])
    rates = [transfer.upload(running, path) for _ in range(UPLOADS)]
    cpu = (sum(process.cpu_times()[:2]) - before) / UPLOADS
    delay, memory = gateway.event_streams(running)
    [submits] = gateway.submit_rate(running)
    return [
        f"{statistics.median(rates):.0f} ({', '.join(f'{rate:.0f}' for rate in rates)})",
        f"{cpu:.2f}",
        f"{delay.value:.0f}",
        f"{memory.value:.0f}",
        f"{submits.value:.2f}",
        f"{rest:.1f}",
    ]


def main(names: list[str]) -> None:
    print("".join(f"- {name}: {value}\n" for name, value in machine().items()))
    print("| server | upload of 1 GiB, MiB/s | CPU s per GiB | SSE delay p99, ms | KiB per SSE client "
          "| submit rate to a bare server | switches/s at rest |\n|---|---|---|---|---|---|---|")  # fmt: skip
    with bench() as running:
        path = running.folder / "gib"
        transfer.write_random(path)
        for name in names or SERVERS:
            running.gateway = running.system.gateway("benchmarks.gateway_under", ASGI_SERVER=name)
            try:
                print(f"| {name} | {' | '.join(measured(running, path))} |", flush=True)
            except (OSError, httpx.HTTPError) as error:
                print(f"| {name} | gave up: {type(error).__name__}: {error} |", flush=True)
            finally:
                running.gateway.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
