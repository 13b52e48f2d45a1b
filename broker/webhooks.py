"""Registered webhook URLs, and the events that become deliveries to them. Shared by all gateways."""

from datetime import datetime
from typing import Self

import msgspec
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import Header

from broker.bucket import Bucket
from broker.error_mapping import mapped_errors
from broker.errors import Conflict
from broker.pulling import Puller
from schemas import inputs, subjects
from schemas.urls import without_credentials
from schemas.webhooks import QueueState, RegisteredWebhook, Webhook, WebhookDelivery, is_whole


class WebhookUrls:
    """The bucket WHISPER_WEBHOOK_URLS."""

    def __init__(
        self,
        js: JetStreamContext,
        bucket: Bucket[RegisteredWebhook],
        states: Bucket[QueueState],
    ) -> None:
        self._js, self._bucket, self._states = js, bucket, states

    @classmethod
    async def open(cls, js: JetStreamContext) -> Self:
        """Raises Unavailable."""
        bucket = await Bucket.open(
            js, subjects.WEBHOOK_URLS_BUCKET, lambda _key, body: inputs.WEBHOOK_URL.read(body)
        )
        return cls(js, bucket, await open_queue_states(js))

    async def register(self, webhook: Webhook) -> None:
        """Remember a URL. Idempotent. Raises Unavailable."""
        fields = {name: getattr(webhook, name) for name in Webhook.__struct_fields__}
        try:
            await self._bucket.create(webhook.id, RegisteredWebhook(**fields))
        except Conflict:
            return

    async def is_registered(self, webhook_id: str) -> bool:
        """Whether there is such a URL, also where its entry cannot be read. Raises Unavailable."""
        return (await self._bucket.get(webhook_id)).is_there

    async def whole(self, webhook: Webhook) -> Webhook | None:
        """Return a webhook with user and password, where its URL lacks them; None where no such URL is registered. Raises Unavailable.

        A request names the entry that has them. One whose URL is another one must not use them.
        """
        if is_whole(webhook):
            return webhook
        found = (await self._bucket.get(webhook.id)).value
        if found is None or without_credentials(found.url) != webhook.url:
            return None
        return msgspec.structs.replace(webhook, url=found.url)

    async def registered(self) -> list[RegisteredWebhook]:
        """Return all URLs, oldest first, without entries that cannot be read. Raises Unavailable."""
        return sorted([w async for w in self._bucket.values()], key=lambda w: (w.created_at, w.id))

    async def mark(self, webhook_id: str, failing_since: datetime | None) -> None:
        """Remember since when all deliveries to a URL have failed; None after one has succeeded. Raises Unavailable.

        A time that is there already stays, because the first failure counts.
        """
        entry = await self._bucket.get(webhook_id)
        webhook = entry.value
        if webhook is None or (webhook.failing_since is None) == (failing_since is None):
            return
        changed = msgspec.structs.replace(webhook, failing_since=failing_since)
        try:
            await self._bucket.update(webhook_id, changed, entry.revision)
        except Conflict:
            # Another gateway has just written the same, or the URL was removed.
            return

    async def remove(self, webhook_id: str) -> bool:
        """Remove a URL and the deliveries that wait for it. Returns False where there is none. Raises Unavailable."""
        if not await self.is_registered(webhook_id):
            return False
        await self._bucket.purge(webhook_id)
        with mapped_errors():
            # A purge by subject is safe here, because no consumer reads this stream (broker/deleting.py).
            await self._js.purge_stream(subjects.WEBHOOKS_STREAM, subject=subjects.webhook(webhook_id))
        await self._states.purge(webhook_id)
        return True


async def open_queue_states(js: JetStreamContext) -> Bucket[QueueState]:
    """Open the bucket WHISPER_WEBHOOK_QUEUES: which gateway works on the queue of a URL. Raises Unavailable."""
    return await Bucket.open(
        js, subjects.WEBHOOK_QUEUES_BUCKET, lambda _key, body: inputs.WEBHOOK_QUEUE.read(body)
    )


class WebhookDeliveries:
    """The events that deliveries are planned from, and the stream WHISPER_WEBHOOKS that keeps the deliveries."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._events = Puller(js, subjects.EVENTS_STREAM, subjects.WEBHOOK_EVENTS_CONSUMER)

    async def next_event(self) -> Msg:
        """Wait for the next event that concerns webhooks. One event at a time is given out among all gateways. Raises Unavailable."""
        return await self._events.next()

    async def add(self, delivery: WebhookDelivery) -> None:
        """Store a delivery, once for its id, round and number within the duplicate window. Raises Unavailable, Refused."""
        with mapped_errors():
            await self._js.publish(
                subjects.webhook(delivery.webhook.id),
                msgspec.json.encode(delivery),
                headers={str(Header.MSG_ID.value): f"{delivery.id} {delivery.round} {delivery.number}"},
            )
