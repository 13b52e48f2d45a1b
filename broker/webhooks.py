"""Registered webhook URLs, and the work queue of deliveries to them, shared by all gateways."""

import msgspec
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from broker.connection import mapped_errors
from broker.deleting import delete_subject
from broker.errors import Conflict
from broker.pulling import Puller
from broker.scanning import scan
from broker.topology import KV_KEY, KV_STREAM
from schemas import subjects
from schemas.webhooks import Webhook, WebhookDelivery


class WebhookUrls:
    def __init__(self, js: JetStreamContext, bucket: KeyValue) -> None:
        self._js, self._bucket = js, bucket

    @classmethod
    async def open(cls, js: JetStreamContext) -> "WebhookUrls":
        with mapped_errors():
            return cls(js, await js.key_value(subjects.WEBHOOK_URLS_BUCKET))

    async def register(self, webhook: Webhook) -> None:
        """Idempotent. Raises Unavailable."""
        try:
            with mapped_errors():
                await self._bucket.create(webhook.id, msgspec.json.encode(webhook))
        except Conflict:
            return

    async def is_registered(self, webhook_id: str) -> bool:
        """Raises Unavailable."""
        with mapped_errors():
            try:
                await self._bucket.get(webhook_id)
            except KeyNotFoundError:
                return False
        return True

    async def registered(self) -> list[Webhook]:
        """Oldest first. Raises Unavailable."""
        bucket = subjects.WEBHOOK_URLS_BUCKET
        stored = scan(self._js, KV_STREAM.format(bucket), KV_KEY.format(bucket, ">"))
        found = [msgspec.json.decode(entry.body, type=Webhook) async for entry in stored]
        return sorted(found, key=lambda w: (w.created_at, w.id))

    async def remove(self, webhook_id: str) -> bool:
        """Forget a URL and what waits for it; False where there is none. Raises Unavailable."""
        if not await self.is_registered(webhook_id):
            return False
        with mapped_errors():
            key = KV_KEY.format(subjects.WEBHOOK_URLS_BUCKET, webhook_id)
            await self._js.purge_stream(KV_STREAM.format(subjects.WEBHOOK_URLS_BUCKET), subject=key)
        await delete_subject(self._js, subjects.WEBHOOKS_STREAM, subjects.webhook(webhook_id))
        return True


class WebhookDeliveries:
    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._events = Puller(js, subjects.EVENTS_STREAM, subjects.WEBHOOK_EVENTS_CONSUMER)
        self._waiting = Puller(js, subjects.WEBHOOKS_STREAM, subjects.WEBHOOK_DELIVERIES_CONSUMER)

    async def next_event(self) -> Msg:
        """The next event that webhooks are told of, or that brings one; one at a time over all gateways."""
        return await self._events.next()

    async def add(self, delivery: WebhookDelivery) -> None:
        """Once per id, round and number of the try, within the duplicate window. Raises Unavailable."""
        with mapped_errors():
            await self._js.publish(
                subjects.webhook(delivery.webhook.id),
                msgspec.json.encode(delivery),
                headers={str(Header.MSG_ID.value): f"{delivery.id} {delivery.round} {delivery.number}"},
            )

    async def next(self) -> Msg:
        """The next delivery that is due. Raises Unavailable."""
        return await self._waiting.next()
