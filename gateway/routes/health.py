"""/health: are there workers, what do their models do, how long is the queue; and the two probes."""

from quart import Blueprint, Response

from broker.connection import refused_lately
from broker.errors import BrokerError, Unavailable
from gateway.admission import nearest_first, reasons, storage_status
from gateway.http.responses import json_response
from gateway.services import Services
from schemas.model import Health, Liveness, ModelState

NAME = "health"
DEGRADED = "degraded"
STILL_FULL_SECS = 60.0
"""So long after the store has refused something /health says so, though there seems to be room: a large upload that was refused has
left some, and nobody but nats-server knows how large its store is."""


def blueprint(services: Services) -> Blueprint:
    health = Blueprint(NAME, __name__)
    instance_id = services.settings.instance_id or None

    @health.get("/health")
    async def read() -> Response:
        return json_response(await look(services))

    @health.get("/health/live")
    async def live() -> Response:
        """A connection that is closed for good ends the process (broker/connection.py); this tells it first."""
        if services.client.is_closed:
            closed = "the connection to the broker is closed for good"
            return json_response(Liveness(status=closed, instance_id=instance_id), 503)
        return json_response(Liveness(status="ok", instance_id=instance_id))

    @health.get("/health/ready")
    async def ready() -> Response:
        """A gateway without workers takes jobs, serves results and streams: only the broker counts."""
        reachable = services.client.is_connected
        status = "ok" if reachable else "broker unreachable"
        answer = Liveness(status=status, instance_id=instance_id)
        return json_response(answer, 200 if reachable else 503)

    return health


async def look(services: Services) -> Health:
    """Answers always: what cannot be reached is told."""
    try:
        if not services.client.is_connected:
            raise Unavailable("there is no connection to nats-server")
        workers = nearest_first(await services.statuses.alive())
        depth, dead = await services.jobs.records.queue_depth(), await services.dead.count()
        room = await services.audio.room()
    except BrokerError as error:
        return Health(
            status=DEGRADED,
            reasons=[f"The message broker cannot be reached: {error}."],
            broker="unreachable",
            model_state=ModelState.OFFLINE,
            queue_depth=None,
            gpu=None,
            workers=[],
        )
    storage = storage_status(room, refused_lately(STILL_FULL_SECS))
    why = reasons(workers, storage)
    return Health(
        status=DEGRADED if why else "ok",
        reasons=why,
        broker="ok",
        storage=storage,
        model_state=workers[0].model.state if workers else ModelState.OFFLINE,
        queue_depth=depth,
        dead_letters=dead,
        gpu=workers[0].gpu if workers else None,
        workers=workers,
    )
