"""The model's controls as a NATS micro service: `nats micro ls`, `nats req whisper.model.status ''`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import nats.micro
from nats.aio.client import Client
from nats.micro.request import Request
from nats.micro.service import ServiceConfig

from gpu_worker.model import Model, ModelBusy, ModelUnavailable
from schemas.subjects import MODEL_PREFIX

SERVICE_NAME = "whisper-model"
SERVICE_VERSION = "1.0.0"


@asynccontextmanager
async def serve_model(client: Client, model: Model) -> AsyncIterator[None]:
    """Answer status, load and unload while inside. Each answers with the ModelStatus after it."""

    async def status(request: Request) -> None:
        await request.respond(msgspec.json.encode(model.status()))

    async def load(request: Request) -> None:
        try:
            await model.load()
        except ModelUnavailable as error:
            await request.respond_error("503", str(error))
            return
        await status(request)

    async def unload(request: Request) -> None:
        try:
            await model.unload()
        except ModelBusy:
            await request.respond_error("409", "A job is running.")
            return
        await status(request)

    config = ServiceConfig(
        name=SERVICE_NAME, version=SERVICE_VERSION, description="Status, load and unload of the model"
    )
    service = await nats.micro.add_service(client, config)
    for name, handler in {"status": status, "load": load, "unload": unload}.items():
        await service.add_endpoint(name=name, subject=f"{MODEL_PREFIX}.{name}", handler=handler)
    try:
        yield
    finally:
        await service.stop()
