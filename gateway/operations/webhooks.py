"""Registered webhook URLs: list them, forget one."""

from msgspec.structs import replace

from broker.webhooks import WebhookUrls
from schemas.errors import ErrorCode, RequestError
from schemas.subjects import is_job_id
from schemas.urls import shown
from schemas.webhooks import WebhookList


class WebhookOperations:
    """The operations on registered URLs. Each raises Unavailable where nats-server does not answer."""

    def __init__(self, urls: WebhookUrls) -> None:
        self._urls = urls

    async def list(self) -> WebhookList:
        """Return all registered URLs, oldest first, without the secrets that they may hold."""
        return WebhookList(webhooks=[replace(w, url=shown(w.url)) for w in await self._urls.registered()])

    async def remove(self, webhook_id: str) -> None:
        """Forget a URL and the deliveries that wait for it. Raises RequestError `not_found`."""
        # A webhook id becomes a key, which may have the letters of a job id.
        if not (is_job_id(webhook_id) and await self._urls.remove(webhook_id)):
            raise RequestError(ErrorCode.NOT_FOUND, f"There is no webhook {webhook_id}.")
