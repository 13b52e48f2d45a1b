"""The description of the routes under /webhooks (gateway/routes/webhooks.py)."""

from typing import Any

from gateway.openapi.parts import Refs, get, json_body, path_parameter, problems
from schemas.errors import ErrorCode
from schemas.webhooks import WebhookList


def paths(ref: Refs) -> dict[str, Any]:
    """Return the description of the routes in gateway/routes/webhooks.py."""
    webhook_id = path_parameter("webhook_id")
    return {
        "/webhooks": get(
            "listWebhooks",
            "Every URL ever given as webhook_url",
            {"200": json_body("The URLs", ref[WebhookList])},
        ),
        "/webhooks/{webhook_id}": {
            "delete": {
                "summary": "Forget a URL",
                "operationId": "removeWebhook",
                "parameters": [webhook_id],
                "responses": {"204": {"description": "Forgotten"}, **problems(ref, ErrorCode.NOT_FOUND)},
            }
        },
    }
