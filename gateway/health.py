"""/health: are there workers, what do their models do, how long is the queue; and the two probes."""

from quart import Blueprint, Response

from broker.errors import BrokerError
from gateway.responses import json_response
from gateway.services import Services
from gateway.workers import nearest_first
from schemas.model import Health, Liveness, ModelState

NAME = "health"


def blueprint(services: Services) -> Blueprint:
    health = Blueprint(NAME, __name__)

    @health.get("/health")
    async def read() -> Response:
        return json_response(await look(services))

    @health.get("/health/live")
    async def live() -> Response:
        return json_response(Liveness(status="ok"))

    @health.get("/health/ready")
    async def ready() -> Response:
        """A gateway without workers takes jobs, serves results and streams: only the broker counts."""
        reachable = services.client.is_connected
        return json_response(
            Liveness(status="ok" if reachable else "broker unreachable"), 200 if reachable else 503
        )

    return health


async def look(services: Services) -> Health:
    """Answers always: what cannot be reached is told."""
    try:
        if not services.client.is_connected:
            raise BrokerError
        workers = nearest_first(await services.statuses.alive())
        depth, dead = await services.jobs.records.queue_depth(), await services.dead.count()
    except BrokerError:
        return Health(
            status="degraded",
            broker="unreachable",
            model_state=ModelState.OFFLINE,
            queue_depth=None,
            gpu=None,
            workers=[],
        )
    state = workers[0].model.state if workers else ModelState.OFFLINE
    return Health(
        status="degraded" if state in (ModelState.OFFLINE, ModelState.ERROR) else "ok",
        broker="ok",
        model_state=state,
        queue_depth=depth,
        dead_letters=dead,
        gpu=workers[0].gpu if workers else None,
        workers=workers,
    )
