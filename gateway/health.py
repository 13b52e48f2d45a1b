"""/health: are there workers, what do their models do, how long is the queue."""

from quart import Blueprint, Response

from gateway.problems import json_response
from gateway.services import Services
from schemas.model import Health

OFFLINE = "offline"


def blueprint(services: Services) -> Blueprint:
    health = Blueprint("health", __name__)

    @health.get("/health")
    async def read() -> Response:
        workers = await services.statuses.alive()
        body = Health(
            status="ok" if workers else "degraded",
            model_state=workers[0].model.state if workers else OFFLINE,
            queue_depth=await services.records.queue_depth(),
            workers=workers,
        )
        return json_response(body)

    return health
