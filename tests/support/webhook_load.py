"""Webhook deliveries in bulk, and what a healthy receiver, the machine and /health notice of them.

Deliveries are put into the stream in their wire format, as a gateway would: eleven thousand jobs would take too long.
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import msgspec
import nats
import psutil
from nats.aio.client import Client

from schemas import subjects
from schemas.model import ModelEvent, ModelState, ModelStatus, event_name
from schemas.webhooks import Webhook, WebhookDelivery, webhook_id
from tests.support.receiver import Receiver
from tests.support.system import Gateway, System

FILL_SECS = 60
EVENT = ModelEvent(
    type=event_name(ModelState.READY),
    worker_id="w",
    at=datetime(2026, 11, 26, 12, 0, tzinfo=UTC),
    model=ModelStatus(state=ModelState.READY),
)


class Figures(msgspec.Struct, kw_only=True, frozen=True):
    """Seconds, and shares of one core."""

    delivered_p95: float
    delivered_max: float
    health_median: float
    health_p95: float
    health_max: float
    gateway_cpu: float
    server_cpu: float
    waiting: int
    """Deliveries that were in the stream then."""


def percentile(values: Sequence[float], share: float = 0.95) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def delivery(url: str, number: int) -> WebhookDelivery:
    webhook = Webhook(id=webhook_id(url), url=url, created_at=EVENT.at)
    return WebhookDelivery(
        id=f"msg_{number}_{webhook.id}", webhook=webhook, type=str(EVENT.type), model=EVENT
    )


async def fill(system: System, urls: Sequence[str], each: int) -> None:
    """Let so many deliveries wait for each URL; returns when the server has stored them, or delivered the first."""
    client = await nats.connect(system.nats.url)
    js = client.jetstream()
    before = (await js.stream_info(subjects.WEBHOOKS_STREAM)).state.last_seq
    for number in range(each):
        for url in urls:
            told = delivery(url, number)
            await client.publish(subjects.webhook(told.webhook.id), msgspec.json.encode(told))
        await client.flush()
    async with asyncio.timeout(FILL_SECS):
        while (await js.stream_info(subjects.WEBHOOKS_STREAM)).state.last_seq - before < each * len(urls):
            await asyncio.sleep(0.05)
    await client.close()


class Healthy:
    """A receiver that answers at once, and notes when."""

    def __init__(self) -> None:
        self.came: list[float] = []
        self.all = threading.Event()
        self._expected = 0

        def answer(_number: int) -> int:
            self.came.append(time.monotonic())
            if len(self.came) == self._expected:
                self.all.set()
            return 204

        self.receiver = Receiver(answer)

    async def deliver(self, client: Client, count: int, every_secs: float) -> list[float]:
        """Give it so many deliveries; how long each took. Raises AssertionError where one is missing or out of order."""
        self._expected, published = count, []
        js = client.jetstream()
        for number in range(count):
            told = delivery(self.receiver.url, number)
            published.append(time.monotonic())
            await js.publish(subjects.webhook(told.webhook.id), msgspec.json.encode(told))
            await asyncio.sleep(every_secs)
        assert await asyncio.to_thread(self.all.wait, 120), f"{len(self.came)} of {count} came"
        came = [headers["webhook-id"] for headers, _ in list(self.receiver.posts.queue)]
        assert came == [delivery(self.receiver.url, number).id for number in range(count)]
        return [at - begun for at, begun in zip(self.came, published, strict=True)]


class HealthProbe:
    """Asks for /health all the time."""

    def __init__(self, gateway: Gateway) -> None:
        self._url, self.took = f"{gateway.url}/health", list[float]()

    @contextmanager
    def asking(self) -> Iterator[None]:
        stop = threading.Event()

        def ask() -> None:
            with httpx.Client(timeout=30) as http:
                while not stop.wait(0.1):
                    begun = time.monotonic()
                    http.get(self._url).raise_for_status()
                    self.took.append(time.monotonic() - begun)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


async def cpu_shares(pids: Sequence[int], secs: float) -> list[float]:
    """Shares of one core."""
    processes = [psutil.Process(pid) for pid in pids]
    before = [sum(p.cpu_times()[:2]) for p in processes]
    begun = time.monotonic()
    await asyncio.sleep(secs)
    took = time.monotonic() - begun
    return [(sum(p.cpu_times()[:2]) - was) / took for p, was in zip(processes, before, strict=True)]


async def measure(
    system: System, gateway: Gateway, *, deliveries: int = 100, every_secs: float = 0.1, idle_secs: float = 10
) -> Figures:
    """What a healthy receiver and /health notice, and before that what the processes use while nothing is due."""
    gateway_cpu, server_cpu = await cpu_shares([gateway.pid, system.nats.pid], idle_secs)
    client = await nats.connect(system.nats.url)
    waiting = (await client.jetstream().stream_info(subjects.WEBHOOKS_STREAM)).state.messages
    healthy, probe = Healthy(), HealthProbe(gateway)
    try:
        with probe.asking():
            took = await healthy.deliver(client, deliveries, every_secs)
    finally:
        healthy.receiver.close()
        await client.close()
    return Figures(
        delivered_p95=percentile(took),
        delivered_max=max(took),
        health_median=percentile(probe.took, 0.5),
        health_p95=percentile(probe.took),
        health_max=max(probe.took),
        gateway_cpu=gateway_cpu,
        server_cpu=server_cpu,
        waiting=waiting,
    )
