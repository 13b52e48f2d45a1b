"""/health: the health of the service, and the two probes of this gateway."""

from quart import Blueprint, Response

from gateway.http.responses import json_response
from gateway.operations.health import HealthCheck
from schemas.model import Liveness

NAME = "health"


def blueprint(health: HealthCheck, instance_id: str) -> Blueprint:
    """Return the routes under /health. `instance_id` is shown by the probes, where it is not empty."""
    routes = Blueprint(NAME, __name__)
    shown_id = instance_id or None

    @routes.get("/health")
    async def read() -> Response:
        return json_response(await health.look())

    @routes.get("/health/live")
    async def live() -> Response:
        if health.is_closed:
            closed = "the connection to the broker is closed for good"
            return json_response(Liveness(status=closed, instance_id=shown_id), 503)
        return json_response(Liveness(status="ok", instance_id=shown_id))

    @routes.get("/health/ready")
    async def ready() -> Response:
        """A gateway without workers takes jobs and serves results and streams, so only nats-server counts."""
        reachable = health.is_connected
        status = "ok" if reachable else "broker unreachable"
        return json_response(Liveness(status=status, instance_id=shown_id), 200 if reachable else 503)

    return routes
