"""Channels that our own processes use among themselves; operators read the dead letters."""

from asyncapi.channel import Channel
from schemas import subjects
from schemas.webhooks import WebhookDelivery


def channels() -> list[Channel]:
    """Return the inner channels."""
    return [
        Channel(
            name="webhookDelivery",
            address=subjects.webhook("{webhook_id}"),
            body=WebhookDelivery,
            by="gateway",
            to="gateway (one at a time for each URL, by WHISPER_WEBHOOK_QUEUES)",
            summary="A delivery",
            parameters={"webhook_id": {"description": "As GET /webhooks tells it"}},
            stream=subjects.WEBHOOKS_STREAM,
        ),
        Channel(
            name="deadLetter",
            address=f"{subjects.DEAD_PREFIX}.{{kind}}.{{id}}",
            by="gpu_worker, gateway",
            to="operators",
            summary="A message that nobody could use, as it was",
            parameters={
                "kind": {"enum": ["submit", "webhooks"]},
                "id": {"description": "Last token of its subject"},
            },
            stream=subjects.DEAD_STREAM,
            headers={
                subjects.REASON_HEADER: "Why, in words",
                subjects.ORIGIN_HEADER: "The subject that it was on",
            },
        ),
    ]
