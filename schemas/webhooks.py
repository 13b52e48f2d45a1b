"""Registered webhook URLs, and what waits to be delivered to them."""

import hashlib

import msgspec

from schemas.jobs import VERSION, Timestamp
from schemas.model import ModelEvent, ModelState, event_name

MODEL_EVENTS = (event_name(ModelState.READY), event_name(ModelState.UNLOADED))
"""What every registered URL is told of the model."""


class Webhook(msgspec.Struct, kw_only=True, frozen=True):
    """A URL that was given as a job's webhook_url: the value of its key in WHISPER_WEBHOOK_URLS."""

    v: int = VERSION
    id: str
    url: str
    created_at: Timestamp


class WebhookList(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to GET /webhooks, oldest first."""

    webhooks: list[Webhook]


class WebhookDelivery(msgspec.Struct, kw_only=True, frozen=True):
    """A message on `whisper.webhooks.<webhook_id>`."""

    v: int = VERSION
    id: str
    """The `webhook-id` header: the same at each try."""
    webhook: Webhook
    event: ModelEvent
    """The body of the POST."""


def webhook_id(url: str) -> str:
    """The same URL has the same id, so that registering it twice is nothing."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]
