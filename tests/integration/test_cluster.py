"""A cluster of three: replicas, a list of servers, and neighbours with other settings."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from nats.js import JetStreamContext

from broker.connection import connect, reconnected
from broker.error_mapping import mapped_errors
from broker.errors import BrokerError
from broker.settings import BrokerSettings
from broker.topology import declarations
from broker.topology.apply import apply
from broker.topology.ensure import ensure
from schemas import subjects
from tests.support.cluster import Cluster

LEADER_SECS = 20.0
MB = 2**20


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    cluster.start()
    yield cluster
    cluster.stop()


async def replicas(js: JetStreamContext) -> set[int | None]:
    return {info.config.num_replicas for info in await js.streams_info()}


async def made(js: JetStreamContext, settings: BrokerSettings) -> None:
    """A cluster that has just been started elects its leader first; so do processes that are restarted until then."""
    async with asyncio.timeout(LEADER_SECS):
        while True:
            try:
                await ensure(js, settings)
                return
            except BrokerError:
                await asyncio.sleep(0.2)


async def test_replicas_and_neighbours_with_other_settings(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    settings = BrokerSettings(nats_url=cluster.url, nats_replicas=3, job_retention_secs=3600.0)
    async with connect(settings, "test") as (_, js):
        await made(js, settings)
        assert await replicas(js) == {3}
        limit = (await js.stream_info(declarations.AUDIO_STREAM)).config.max_bytes
        assert limit is not None
        assert 90 * MB < limit <= 150 * MB
        other = BrokerSettings(nats_url=cluster.url, job_ack_wait_secs=5.0)
        caplog.clear()
        assert (await ensure(js, other)).job_ack_wait_secs == 30
        [warning] = [message for message in caplog.messages if "other settings" in message]
        assert "num_replicas is 3, not 1" in warning
        assert await replicas(js) == {3}
        assert (await js.stream_info(subjects.EVENTS_STREAM)).config.max_age == 3600
        fewer = msgspec.structs.replace(settings, nats_replicas=1)
        assert [applied.problem for applied in await apply(js, fewer) if applied.problem] == []
        assert await replicas(js) == {1}


async def test_any_server_may_be_down_and_any_may_die(cluster: Cluster) -> None:
    settings = BrokerSettings(nats_url=cluster.url, nats_replicas=3)
    async with connect(settings, "test") as (_, js):
        await made(js, settings)
    cluster.servers[0].stop(signal.SIGKILL)
    async with connect(settings, "test") as (client, js):
        assert client.connected_url is not None
        url = client.connected_url.geturl()
        assert url != cluster.servers[0].url
        cluster.servers[0].start()
        [mine] = [server for server in cluster.servers if server.url == url]
        again = asyncio.ensure_future(reconnected(js))
        await asyncio.sleep(0)
        mine.stop(signal.SIGKILL)
        async with asyncio.timeout(LEADER_SECS):
            await again
            assert client.connected_url.geturl() != url
            while True:
                try:
                    with mapped_errors():
                        await js.publish(subjects.submit("one"), b"{}", headers={"Nats-Msg-Id": "one"})
                    break
                except BrokerError:  # the stream elects a new leader
                    await asyncio.sleep(0.2)
