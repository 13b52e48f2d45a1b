"""Fixtures: a real nats-server per test, a connected broker, the demo model, the speech files."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from broker.connection import connect
from broker.settings import BrokerSettings
from broker.topology.ensure import ensure
from standalone import known_models, models
from tests.support.nats_process import NatsProcess
from tests.support.system import Gateway, System

for name in [n for n in os.environ if n.startswith(("WHISPER_", "NATS_", "JOB_", "MODEL_"))]:
    del os.environ[name]  # what the developer has set must not change what is tested


@pytest.fixture
def nats_process(tmp_path: Path) -> Iterator[NatsProcess]:
    process = NatsProcess(tmp_path / "nats")
    process.start()
    yield process
    process.stop()


@pytest.fixture
def broker_settings(nats_process: NatsProcess) -> BrokerSettings:
    return BrokerSettings(nats_url=nats_process.url, job_ack_wait_secs=2)


@pytest.fixture
async def client(broker_settings: BrokerSettings) -> AsyncIterator[Client]:
    async with connect(broker_settings, "test") as (client, js):
        await ensure(js, broker_settings)
        yield client


@pytest.fixture
def js(client: Client) -> JetStreamContext:
    return client.jetstream()


@pytest.fixture(scope="session")
def demo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that the repository ships, unpacked."""
    return models.fetch(known_models.DEMO, tmp_path_factory.mktemp("models"), "", lambda _done, _total: None)


@pytest.fixture
def system(tmp_path: Path, demo_model: Path) -> Iterator[System]:
    """An empty system of real processes; its logs are printed when the test fails."""
    system = System(tmp_path, demo_model)
    yield system
    system.close()
    print(system.logs())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Iterator[tuple[System, Gateway]]:
    """One worker and one gateway for all tests of a module that only submit jobs."""
    system = System(tmp_path_factory.mktemp("shared"), demo_model)
    try:
        system.worker()
        yield system, system.gateway()
    finally:
        system.close()
        print(system.logs())
