"""What operators do over NATS, so that it works without a gateway: the model, the dead letters, the topology.

Only `topology apply` creates or changes a stream.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from nats.aio.client import Client
from nats.js import JetStreamContext

from broker.connection import connect
from broker.dead_letters import DeadLetter, DeadLetters
from broker.error_mapping import mapped_errors
from broker.errors import Refused, Unavailable
from broker.model_control import request_model
from broker.settings import BrokerSettings
from broker.topology.apply import Applied, apply
from broker.topology.diff import Difference
from broker.topology.ensure import compare, is_made
from broker.worker_status import WorkerStatuses
from gpu_worker.settings import host_name
from schemas.model import ModelEvent, ModelState, ModelStatus
from schemas.settings import from_environment
from schemas.subjects import ALL_MODEL_EVENTS
from standalone import data_dir, nats_server
from standalone.settings import StandaloneSettings

MODEL_TIMEOUT_SECS = 600.0
"""How long a load or an unload is waited for."""
CONNECT_TIMEOUT_SECS = 1.0
"""Short, because a person waits, or a health check with 5 s. NATS_CONNECT_TIMEOUT_SECS sets another one."""
_STILL = {ModelState.READY, ModelState.WAITING_FOR_GPU, ModelState.UNLOADED, ModelState.ERROR}
SETTLED = {"status": set(ModelState), "load": _STILL - {ModelState.UNLOADED}, "unload": _STILL}
"""The states in which an action on the model has ended."""


def broker_settings(named: str | None) -> BrokerSettings:
    """Return how to reach nats-server: by `named`, else NATS_URL, else the `up` on DATA_DIR, else the usual port.

    Raises SettingsError; Unavailable where DATA_DIR is set and no `up` runs on it.
    """
    environment = {"NATS_CONNECT_TIMEOUT_SECS": str(CONNECT_TIMEOUT_SECS), **os.environ}
    if named or not environment.get("NATS_URL"):
        environment["NATS_URL"] = named or _embedded(from_environment(StandaloneSettings, os.environ))
    return from_environment(BrokerSettings, environment)


def _embedded(settings: StandaloneSettings) -> str:
    """Return the URL of the `up` on DATA_DIR; without one that of the usual port, as with nats/dev.conf."""
    running = data_dir.running_nats(Path(settings.data_dir))
    if running is None and "DATA_DIR" in os.environ and not os.environ.get("NATS_PORT"):
        raise Unavailable(
            f"no `up` runs on DATA_DIR={settings.data_dir}: start one, or name a nats-server with --nats-url or NATS_URL"
        )
    port = settings.nats_port if settings.nats_port and settings.nats_port > 0 else nats_server.DEFAULT_PORT
    return running or f"nats://{nats_server.LOOPBACK}:{port}"


@asynccontextmanager
async def broker(settings: BrokerSettings) -> AsyncIterator[tuple[Client, JetStreamContext]]:
    """Connect while the block runs. Raises BrokerError."""
    async with connect(settings, "cli") as connection:
        yield connection


@asynccontextmanager
async def system(settings: BrokerSettings) -> AsyncIterator[JetStreamContext]:
    """Connect to a nats-server that has our streams. Raises BrokerError."""
    async with broker(settings) as (_, js):
        if not await is_made(js, settings):
            raise Refused(
                f"nats-server at {settings.addresses()} has no streams of this service: "
                "gateways and workers make them when they start"
            )
        yield js


async def ask_model(settings: BrokerSettings, action: str, force: bool) -> ModelStatus:
    """Ask any worker about its model, wait for what was asked, and return the status. Raises BrokerError."""
    async with broker(settings) as (client, _):
        with mapped_errors():
            events = await client.subscribe(ALL_MODEL_EVENTS)
        status = await request_model(client, action, force=force)
        while status.state not in SETTLED[action]:
            with mapped_errors():
                message = await events.next_msg(timeout=MODEL_TIMEOUT_SECS)
            event = msgspec.json.decode(message.data, type=ModelEvent)
            if event.worker_id == status.worker_id:
                status = event.model
        return status


async def worker_is_alive(settings: BrokerSettings) -> bool:
    """Whether the worker of this host, or the one that WORKER_ID names, is alive. Raises BrokerError."""
    async with system(settings) as js:
        statuses = await WorkerStatuses.open(js)
        mine = os.environ.get("WORKER_ID") or f"{host_name()}-"
        return any(status.worker_id.startswith(mine) for status in await statuses.alive())


async def dead_letters(settings: BrokerSettings) -> list[DeadLetter]:
    """Return all dead letters, oldest first. Raises BrokerError."""
    async with system(settings) as js:
        return await DeadLetters(js).all()


async def requeue(settings: BrokerSettings, numbers: list[int]) -> list[str]:
    """Put these letters, or all, back into their queues, and return their subjects.

    Raises BrokerError; KeyError for the number of no letter.
    """
    async with system(settings) as js:
        dead = DeadLetters(js)
        return [await dead.requeue(n) for n in numbers or [letter.seq for letter in await dead.all()]]


async def topology_diff(settings: BrokerSettings) -> list[Difference]:
    """Return how the server differs from our declarations. Raises BrokerError."""
    async with broker(settings) as (_, js):
        return await compare(js, settings)


async def topology_applied(settings: BrokerSettings) -> list[Applied]:
    """Change the server to our declarations, and return what became of each difference. Raises BrokerError."""
    async with broker(settings) as (_, js):
        return await apply(js, settings)
