"""Registered webhook URLs, and what becomes a delivery to them. Shared by all gateways."""

import logging
from datetime import datetime

import msgspec
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from broker.connection import mapped_errors
from broker.errors import Conflict
from broker.pulling import Puller
from broker.scanning import scan
from broker.topology.declared import KV_KEY, KV_STREAM
from schemas import inputs, subjects
from schemas.webhooks import RegisteredWebhook, Webhook, WebhookDelivery

log = logging.getLogger(__name__)

URLS_STREAM = KV_STREAM.format(subjects.WEBHOOK_URLS_BUCKET)
QUEUES_STREAM = KV_STREAM.format(subjects.WEBHOOK_QUEUES_BUCKET)


class WebhookUrls:
    """The bucket WHISPER_WEBHOOK_URLS."""

    def __init__(self, js: JetStreamContext, bucket: KeyValue) -> None:
        self._js, self._bucket = js, bucket

    @classmethod
    async def open(cls, js: JetStreamContext) -> "WebhookUrls":
        with mapped_errors():
            return cls(js, await js.key_value(subjects.WEBHOOK_URLS_BUCKET))

    async def register(self, webhook: Webhook) -> None:
        """Idempotent. Raises Unavailable."""
        fields = {name: getattr(webhook, name) for name in Webhook.__struct_fields__}
        try:
            with mapped_errors():
                await self._bucket.create(webhook.id, msgspec.json.encode(RegisteredWebhook(**fields)))
        except Conflict:
            return

    async def is_registered(self, webhook_id: str) -> bool:
        """Raises Unavailable."""
        return await self._get(webhook_id) is not None

    async def registered(self) -> list[RegisteredWebhook]:
        """Oldest first; an entry that cannot be read is nobody's. Raises Unavailable."""
        found = []
        async for entry in scan(self._js, URLS_STREAM, KV_KEY.format(subjects.WEBHOOK_URLS_BUCKET, ">")):
            if (webhook := _read(entry.subject, entry.body)) is not None:
                found.append(webhook)
        return sorted(found, key=lambda w: (w.created_at, w.id))

    async def mark(self, webhook_id: str, failing_since: datetime | None) -> None:
        """Keep since when it only fails: the first time counts; None once a delivery has succeeded. Raises Unavailable."""
        entry = await self._get(webhook_id)
        webhook = _read(webhook_id, entry.value or b"") if entry is not None else None
        if entry is None or webhook is None or (webhook.failing_since is None) == (failing_since is None):
            return
        changed = msgspec.structs.replace(webhook, failing_since=failing_since)
        try:
            with mapped_errors():
                await self._bucket.update(webhook_id, msgspec.json.encode(changed), last=entry.revision)
        except Conflict:
            return  # another gateway has just told the same, or it was removed

    async def remove(self, webhook_id: str) -> bool:
        """Forget a URL and what waits for it; False where there is none. Raises Unavailable."""
        if not await self.is_registered(webhook_id):
            return False
        with mapped_errors():
            key = KV_KEY.format(subjects.WEBHOOK_URLS_BUCKET, webhook_id)
            await self._js.purge_stream(URLS_STREAM, subject=key)
            # By its subject: no consumer reads this stream that could lose its place (broker/deleting.py).
            await self._js.purge_stream(subjects.WEBHOOKS_STREAM, subject=subjects.webhook(webhook_id))
            state = KV_KEY.format(subjects.WEBHOOK_QUEUES_BUCKET, webhook_id)
            await self._js.purge_stream(QUEUES_STREAM, subject=state)
        return True

    async def _get(self, webhook_id: str) -> KeyValue.Entry | None:
        with mapped_errors():
            try:
                return await self._bucket.get(webhook_id)
            except KeyNotFoundError:
                return None


def _read(name: str, body: bytes) -> RegisteredWebhook | None:
    try:
        return inputs.WEBHOOK_URL.read(body)
    except inputs.Unreadable as error:
        log.warning("%s is no webhook: %s", name, error)
        return None


class WebhookDeliveries:
    """Where deliveries come from, and go to: events are pulled, deliveries are stored."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._events = Puller(js, subjects.EVENTS_STREAM, subjects.WEBHOOK_EVENTS_CONSUMER)

    async def next_event(self) -> Msg:
        """The next event that webhooks are told of, or that brings one; one at a time over all gateways."""
        return await self._events.next()

    async def add(self, delivery: WebhookDelivery) -> None:
        """Once per id and round, within the duplicate window. Raises Unavailable, Refused."""
        with mapped_errors():
            await self._js.publish(
                subjects.webhook(delivery.webhook.id),
                msgspec.json.encode(delivery),
                headers={str(Header.MSG_ID.value): f"{delivery.id} {delivery.round} {delivery.number}"},
            )
