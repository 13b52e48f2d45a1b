"""The description of the routes under /model (gateway/routes/model.py)."""

from typing import Any

from gateway.openapi.parts import RESUME, Refs, json_body, problems, query
from schemas.errors import ErrorCode
from schemas.model import ModelState, ModelStatus, event_name

MODEL_STREAM_TEXT = (
    "Server-sent events without an end: first `model_status`, how things are, for who does not resume; then "
    + ", ".join(f"`{event_name(state)}`" for state in ModelState if state is not ModelState.OFFLINE)
    + " as they happen. `id` is the position to resume behind."
)


def paths(ref: Refs) -> dict[str, Any]:
    """Return the description of the routes in gateway/routes/model.py."""
    worker = query("worker_id", {"type": "string"}, "Default: the worker that is nearest to working")
    force = query(
        "force", {"type": "boolean", "default": False}, "Put jobs that are in the way back into the queue"
    )
    status = ref[ModelStatus]
    return {
        "/model/status": {
            "get": {
                "summary": "The model's state; `offline` where no worker is alive",
                "operationId": "getModelStatus",
                "parameters": [worker],
                "responses": {
                    "200": json_body("The model", status),
                    **problems(ref, ErrorCode.BROKER_UNAVAILABLE),
                },
            }
        },
        "/model/load": {
            "post": {
                "summary": "Ask for the model; idempotent",
                "operationId": "loadModel",
                "parameters": [worker],
                "responses": {
                    "200": json_body("It is ready", status),
                    "202": json_body("It will be; follow /model/events", status),
                    **problems(ref, ErrorCode.MODEL_NOT_READY),
                },
            }
        },
        "/model/unload": {
            "post": {
                "summary": "Hand the GPU back; `force=true` puts a running job back into the queue",
                "operationId": "unloadModel",
                "parameters": [worker, force],
                "responses": {
                    "200": json_body("It is unloaded", status),
                    "202": json_body("It is being unloaded; follow /model/events", status),
                    **problems(ref, ErrorCode.JOB_RUNNING, ErrorCode.MODEL_NOT_READY),
                },
            }
        },
        "/model/events": {
            "get": {
                "summary": "Follow the models of all workers",
                "description": MODEL_STREAM_TEXT,
                "operationId": "streamModel",
                "parameters": RESUME,
                "responses": {"200": {"description": "The events", "content": {"text/event-stream": {}}}},
            }
        },
    }
