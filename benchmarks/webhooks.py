"""`make bench-webhooks`: what a healthy receiver notices of receivers that are dead, slow or not there.

`python -m benchmarks.webhooks [NAME...] [--write]` prints a table; --write keeps it in docs/evidence/webhooks.md. Receivers are on the
loopback address; deliveries are put into the stream in their wire format (tests/support/webhook_load.py).
"""

import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import nats

from benchmarks.harness import machine
from schemas import subjects
from tests.support.receiver import HANG, Receiver
from tests.support.system import System
from tests.support.webhook_load import Figures, fill, measure

EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence" / "webhooks.md"
SLOW_SECS = 9.0
HEAD = """# Webhooks do not wait for each other

What a healthy receiver notices while others are dead, slow or not there: 100 deliveries to it, one every 0.1 s, each timed from
its publish to its POST. Before that, for 10 s, what gateway and nats-server use of a core while nothing is due but what waits.
/health is asked ten times a second meanwhile. One gateway, one nats-server. Written by `make bench-webhooks`
(`python -m benchmarks.webhooks --write`). Goals: p95 within 2 s, 5 % of a core, 100 ms. Compare with the first line: the load average tells
what else the machine had to do.

"""

Scene = tuple[list[str], int]
"""URLs, and how many deliveries wait for each."""


def slow(_number: int) -> int:
    time.sleep(SLOW_SECS)
    return 204


def closed_port() -> int:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return int(reserved.getsockname()[1])


@contextmanager
def nothing() -> Iterator[Scene]:
    yield [], 0


@contextmanager
def dead() -> Iterator[Scene]:
    receiver = Receiver(lambda _number: HANG)
    yield [receiver.url], 11_000
    receiver.close()


@contextmanager
def nine_seconds() -> Iterator[Scene]:
    receiver = Receiver(slow)
    yield [receiver.url], 3_000
    receiver.close()


@contextmanager
def eight_hosts(urls_each: int) -> Iterator[Scene]:
    """40 deliveries to each of eight hosts."""
    receivers = [Receiver(slow) for _ in range(8)]
    yield [f"{receiver.url}/{n}" for n in range(urls_each) for receiver in receivers], 40 // urls_each
    for receiver in receivers:
        receiver.close()


@contextmanager
def refused(urls: int) -> Iterator[Scene]:
    """11,000 deliveries to a port where nobody listens."""
    port = closed_port()
    yield [f"http://127.0.0.1:{port}/hook/{n}" for n in range(urls)], 11_000 // urls


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    told: str
    scene: Callable[[], AbstractContextManager[Scene]]
    backoff: str = "1,2,4,8,16"
    settled: bool = False
    """Measured once each URL has been tried."""


SITUATIONS = {
    "nothing": Situation(told="nothing waits", scene=nothing),
    "dead": Situation(told="11,000 for a receiver that never answers", scene=dead),
    "slow": Situation(told="3,000 for one that takes 9 s", scene=nine_seconds),
    "hosts": Situation(told="8 hosts x 40 at 9 s, a URL each", scene=lambda: eight_hosts(1)),
    "urls": Situation(told="8 hosts x 40 at 9 s, 40 URLs each", scene=lambda: eight_hosts(40)),
    "refused": Situation(told="11,000 refused connections, one URL", scene=lambda: refused(1)),
    "refused-urls": Situation(
        told="11,000 refused connections, 11,000 URLs, all being tried", scene=lambda: refused(11_000)
    ),
    "waiting-urls": Situation(
        told="the same, when each has failed and waits for an hour",
        scene=lambda: refused(11_000),
        backoff="3600",
        settled=True,
    ),
}


async def all_tried(system: System, urls: int) -> None:
    """Each has its entry, and nothing more happens."""
    client = await nats.connect(system.nats.url)
    js, before = client.jetstream(), -1
    async with asyncio.timeout(600):
        while True:
            state = (await js.stream_info(f"KV_{subjects.WEBHOOK_QUEUES_BUCKET}")).state
            if state.messages >= urls and state.last_seq == before:
                break
            before = state.last_seq
            await asyncio.sleep(3)
    await client.close()


async def run(situation: Situation, system: System) -> Figures:
    gateway = await asyncio.to_thread(system.gateway, WEBHOOK_BACKOFF=situation.backoff)
    with situation.scene() as (urls, each):
        await fill(system, urls, each)
        if situation.settled:
            await all_tried(system, len(urls))
        return await measure(system, gateway)


def main(arguments: list[str]) -> int:
    names = [name for name in arguments if not name.startswith("--")] or list(SITUATIONS)
    lines = [
        "| waiting for others | p95 | longest | /health p95 | longest | gateway | nats-server |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            system = System(Path(folder) / name, Path(folder) / "no model")
            try:
                found = asyncio.run(run(SITUATIONS[name], system))
            finally:
                system.close()
            seconds = (found.delivered_p95, found.delivered_max, found.health_p95, found.health_max)
            shares = (found.gateway_cpu, found.server_cpu)
            cells = [f"{1000 * s:.0f} ms" for s in seconds] + [f"{100 * share:.1f} %" for share in shares]
            lines.append(f"| {SITUATIONS[name].told} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    about = "\n".join(f"- {name}: {value}" for name, value in {**machine(), "load average": load}.items())
    text = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n\n{about}\n\n" + "\n".join(lines) + "\n"
    if "--write" in arguments:
        EVIDENCE.write_text(HEAD + text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
