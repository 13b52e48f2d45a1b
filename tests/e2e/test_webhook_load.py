"""A healthy receiver does not wait for others that are dead, slow or not there; `make bench-webhooks` has the full numbers."""

import asyncio

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy

from benchmarks.webhooks import closed_port, slow
from gateway.webhooks.sender import LOOK_SECS
from schemas import subjects
from tests.support.receiver import HANG, Receiver
from tests.support.system import System
from tests.support.webhook_load import Figures, Healthy, fill, measure

pytestmark = pytest.mark.slow

WITHIN_SECS = 2.0
"""Each delivery to a healthy receiver (p95)."""
HEALTH_SECS = 0.1
"""For /health, on a machine that has nothing else to do; on a busy one it may take three times what it takes anyway."""


async def measured(system: System, urls: list[str], each: int, idle_secs: float = 0.1) -> Figures:
    """What is noticed while so many deliveries wait for each URL; it is checked against what is noticed without them."""
    gateway = await asyncio.to_thread(system.gateway)
    before = await measure(system, gateway, deliveries=20, every_secs=0.05, idle_secs=0.1)
    await fill(system, urls, each)
    found = await measure(system, gateway, deliveries=40, every_secs=0.05, idle_secs=idle_secs)
    assert found.delivered_p95 < WITHIN_SECS
    assert found.health_median < max(HEALTH_SECS, 3 * before.health_median)
    return found


async def test_thousands_wait_for_a_receiver_that_never_answers(system: System) -> None:
    dead = Receiver(lambda _: HANG)
    found = await measured(system, [dead.url], 3000, idle_secs=5)
    assert found.waiting == 3000
    assert found.gateway_cpu < 0.05
    assert found.server_cpu < 0.05
    assert dead.posts.qsize() <= 2  # in order: one try at a time
    dead.close()


@pytest.mark.parametrize("urls_each", [1, 20])
async def test_eight_hosts_of_nine_seconds(system: System, urls_each: int) -> None:
    hosts = [Receiver(slow) for _ in range(8)]
    await measured(system, [f"{host.url}/{n}" for n in range(urls_each) for host in hosts], 20 // urls_each)
    for host in hosts:
        host.close()


@pytest.mark.parametrize("urls", [1, 500])
async def test_refused_connections(system: System, urls: int) -> None:
    port = closed_port()
    await measured(system, [f"http://127.0.0.1:{port}/{n}" for n in range(urls)], 1000 // urls)


async def test_many_that_are_not_due_cost_nothing(system: System) -> None:
    """A thousand URLs have failed and wait for an hour."""
    port = closed_port()
    gateway = await asyncio.to_thread(system.gateway, WEBHOOK_BACKOFF="3600")
    await fill(system, [f"http://127.0.0.1:{port}/{n}" for n in range(1000)], 1)
    client = await nats.connect(system.nats.url)
    js = client.jetstream()
    async with asyncio.timeout(60):
        while gateway.log.read_text().count("again in 3600 s") < 1000:
            await asyncio.sleep(0.2)
    before = (await js.stream_info(f"KV_{subjects.WEBHOOK_QUEUES_BUCKET}")).state.last_seq
    found = await measure(system, gateway, deliveries=5, idle_secs=5)
    after = (await js.stream_info(f"KV_{subjects.WEBHOOK_QUEUES_BUCKET}")).state.last_seq
    await client.close()
    assert found.gateway_cpu < 0.05
    assert found.server_cpu < 0.05
    assert after - before <= 20  # those of the healthy receiver's own turns
    assert found.waiting == 1000


async def test_two_gateways_keep_the_order_of_each_url(system: System) -> None:
    """Five URLs; each gets its thirty one after the other, however the gateways share them."""
    receivers = [Healthy() for _ in range(5)]
    await asyncio.gather(*(asyncio.to_thread(system.gateway) for _ in range(2)))
    client = await nats.connect(system.nats.url)
    await asyncio.gather(*(each.deliver(client, 30, 0.1) for each in receivers))
    await client.close()
    for each in receivers:
        each.receiver.close()


async def test_a_stream_of_the_version_before_is_served_too(system: System) -> None:
    """Nobody has changed the topology since: its stream has the old consumer, and tells nobody of what is stored."""
    client = await nats.connect(system.nats.url)
    js = client.jetstream()
    await js.add_stream(
        name=subjects.WEBHOOKS_STREAM,
        subjects=[subjects.ALL_WEBHOOKS],
        retention=RetentionPolicy.WORK_QUEUE,
        allow_direct=True,
    )
    await js.add_consumer(
        subjects.WEBHOOKS_STREAM,
        ConsumerConfig(durable_name="webhook-deliveries", ack_policy=AckPolicy.EXPLICIT),
    )
    gateway, healthy = await asyncio.to_thread(system.gateway), Healthy()
    took = await healthy.deliver(client, 10, 0.1)
    assert max(took) < 2 * LOOK_SECS
    assert (await js.stream_info(subjects.WEBHOOKS_STREAM)).state.messages <= 1
    assert gateway.status is None
    await client.close()
    healthy.receiver.close()
