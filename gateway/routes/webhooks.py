"""/webhooks: which URLs are registered, and forgetting one."""

from msgspec.structs import replace
from quart import Blueprint, Response

from gateway.http.responses import json_response
from gateway.services import Services
from schemas.errors import ErrorCode, RequestError
from schemas.subjects import is_job_id
from schemas.urls import shown
from schemas.webhooks import WebhookList


def blueprint(services: Services) -> Blueprint:
    webhooks = Blueprint("webhooks", __name__)

    @webhooks.get("/webhooks")
    async def registered() -> Response:
        found = await services.webhook_urls.registered()
        return json_response(WebhookList(webhooks=[replace(w, url=shown(w.url)) for w in found]))

    @webhooks.delete("/webhooks/<webhook_id>")
    async def remove(webhook_id: str) -> Response:
        # The same letters as a job id: it becomes a key.
        if not (is_job_id(webhook_id) and await services.webhook_urls.remove(webhook_id)):
            raise RequestError(ErrorCode.NOT_FOUND, f"There is no webhook {webhook_id}.")
        return Response(status=204)

    return webhooks
