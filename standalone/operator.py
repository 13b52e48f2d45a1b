"""What operators do over NATS itself, so that it works without a gateway: the model, and the dead letters."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from nats.aio.client import Client
from nats.js import JetStreamContext

from broker import topology
from broker.connection import BrokerSettings, connect, mapped_errors
from broker.dead_letters import DeadLetter, DeadLetters
from broker.model_control import request_model
from broker.worker_status import WorkerStatuses
from gpu_worker.settings import host_name
from schemas.model import ModelEvent, ModelState, ModelStatus
from schemas.settings import from_environment
from schemas.subjects import ALL_MODEL_EVENTS

MODEL_TIMEOUT_SECS = 600.0
_STILL = {ModelState.READY, ModelState.WAITING_FOR_GPU, ModelState.UNLOADED, ModelState.ERROR}
SETTLED = {"status": set(ModelState), "load": _STILL - {ModelState.UNLOADED}, "unload": _STILL}
"""When an action on the model has come to something."""


@asynccontextmanager
async def broker() -> AsyncIterator[tuple[Client, JetStreamContext]]:
    """The one of NATS_URL, else the embedded one. Raises BrokerError, SettingsError."""
    embedded = f"nats://127.0.0.1:{os.environ.get('NATS_PORT', '4222')}"
    defaults = {"NATS_URL": embedded, "NATS_CONNECT_TIMEOUT_SECS": "5"}
    settings = from_environment(BrokerSettings, {**defaults, **os.environ})
    async with connect(settings, "cli") as (client, js):
        await topology.ensure(js, settings)
        yield client, js


async def ask_model(action: str, force: bool) -> ModelStatus:
    """Waits for what was asked for. Raises BrokerError."""
    async with broker() as (client, _):
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


async def worker_is_alive() -> bool:
    """Whether the worker of this host, or the one that WORKER_ID names, tells its status. Raises BrokerError."""
    async with broker() as (_, js):
        statuses = await WorkerStatuses.open(js)
        mine = os.environ.get("WORKER_ID") or f"{host_name()}-"
        return any(status.worker_id.startswith(mine) for status in await statuses.alive())


async def dead_letters() -> list[DeadLetter]:
    """Oldest first. Raises BrokerError."""
    async with broker() as (_, js):
        return await DeadLetters(js).all()


async def requeue(numbers: list[int]) -> list[str]:
    """Put these, or all, back where they were; their subjects. Raises BrokerError, KeyError for a number that is none."""
    async with broker() as (_, js):
        dead = DeadLetters(js)
        return [await dead.requeue(n) for n in numbers or [letter.seq for letter in await dead.all()]]
