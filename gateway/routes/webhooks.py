"""/webhooks: list the registered URLs, forget one."""

from quart import Blueprint, Response

from gateway.http.responses import json_response
from gateway.operations.webhooks import WebhookOperations


def blueprint(webhooks: WebhookOperations) -> Blueprint:
    """Return the routes under /webhooks."""
    routes = Blueprint("webhooks", __name__)

    @routes.get("/webhooks")
    async def registered() -> Response:
        return json_response(await webhooks.list())

    @routes.delete("/webhooks/<webhook_id>")
    async def remove(webhook_id: str) -> Response:
        await webhooks.remove(webhook_id)
        return Response(status=204)

    return routes
