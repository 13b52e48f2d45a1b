"""/model: see the model, load it, hand the GPU back, follow what happens to it."""

from quart import Blueprint, Response, request

from gateway.http.responses import event_stream, is_true, json_response, resume_after
from gateway.operations.model import ModelOperations
from gateway.streaming.model_stream import ModelStream
from schemas.model import ModelState


def blueprint(models: ModelOperations, stream: ModelStream) -> Blueprint:
    """Return the routes under /model."""
    routes = Blueprint("model", __name__)

    @routes.get("/model/status")
    async def status() -> Response:
        return json_response(await models.status(request.args.get("worker_id")))

    @routes.post("/model/load")
    async def load() -> Response:
        found = await models.load(request.args.get("worker_id"))
        return json_response(found, 200 if found.state is ModelState.READY else 202)

    @routes.post("/model/unload")
    async def unload() -> Response:
        force = is_true(request.args.get("force"))
        found = await models.unload(request.args.get("worker_id"), force=force)
        return json_response(found, 200 if found.state is ModelState.UNLOADED else 202)

    @routes.get("/model/events")
    async def events() -> Response:
        return event_stream(stream.frames(resume_after()))

    return routes
