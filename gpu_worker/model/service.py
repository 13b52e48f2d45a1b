"""The model's controls as a NATS micro service: `nats micro ls`, `nats req whisper.model.status ''`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import nats.micro
from nats.aio.client import Client
from nats.micro.request import Request
from nats.micro.service import ServiceConfig

from broker.connection import goodbye
from broker.micro import answer, refuse
from gpu_worker.model.lifecycle_state import JobInTheWay
from gpu_worker.model.model import Model
from schemas.inputs import UNLOAD_REQUEST, Unreadable
from schemas.subjects import model_control
from schemas.version import VERSION

SERVICE_NAME = "whisper-model"


@asynccontextmanager
async def serve_model(client: Client, model: Model, worker_id: str) -> AsyncIterator[None]:
    """Answer status, load and unload while the block runs, each with the ModelStatus at that moment.

    Load and unload are answered at once; what becomes of them is published as events. Each action has two subjects: one
    that any worker answers, and one for this worker. The body of unload is a schemas.model.UnloadRequest.
    """

    async def status(request: Request) -> None:
        await answer(request, msgspec.json.encode(await model.status()))

    async def load(request: Request) -> None:
        model.load()
        await answer(request, msgspec.json.encode(model.snapshot()))

    async def unload(request: Request) -> None:
        try:
            order = UNLOAD_REQUEST.read(request.data or b"{}")
            model.unload(order.force)
        except Unreadable as error:
            await refuse(request, 400, str(error))
        except JobInTheWay:
            await refuse(request, 409, "A job is running or about to run; force=true puts it back.")
        else:
            await answer(request, msgspec.json.encode(model.snapshot()))

    config = ServiceConfig(
        name=SERVICE_NAME,
        version=VERSION,
        description="Status, load and unload of the model",
        metadata={"worker_id": worker_id},
    )
    service = await nats.micro.add_service(client, config)
    try:
        for name, handler in {"status": status, "load": load, "unload": unload}.items():
            await service.add_endpoint(name=name, subject=model_control(name), handler=handler)
            own = model_control(name, worker_id)
            await service.add_endpoint(name=f"{name}-{worker_id}", subject=own, handler=handler)
        yield
    finally:
        async with goodbye(f"stop {SERVICE_NAME}"):
            await service.stop()
