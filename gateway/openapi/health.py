"""The description of the routes under /health (gateway/routes/health.py)."""

from typing import Any

from gateway.openapi.parts import Refs, get, json_body
from schemas.model import Health, Liveness


def paths(ref: Refs) -> dict[str, Any]:
    """Return the description of the routes in gateway/routes/health.py."""
    live = {"200": json_body("Yes", ref[Liveness])}
    unready = {"503": json_body("The broker cannot be reached", ref[Liveness])}
    return {
        "/health": get(
            "getHealth", "GPU, queue, model, workers and broker", {"200": json_body("Health", ref[Health])}
        ),
        "/health/live": get("getLiveness", "Does this process answer?", live),
        "/health/ready": get(
            "getReadiness", "Can it take jobs? An unloaded model counts as ready", live | unready
        ),
    }
