"""One attempt at a delivery: a POST to the receiver, and its result."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpcore

from gateway.outbound.guard import AddressRefused, Guard, GuardedBackend
from gateway.webhooks.lanes import AT_ONCE
from gateway.webhooks.signing import headers
from schemas.urls import basic_credentials, host_header
from schemas.webhooks import WebhookDelivery

TIMEOUT_SECS = 10.0
"""Timeout of one attempt as a whole."""
KEPT_CONNECTIONS, KEPT_SECS = 32, 30.0
"""How many idle connections are kept open for the next delivery, and for how long."""

FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)
"""Exceptions of httpcore that mean a failed attempt."""


class Poster:
    """Sends signed POSTs over kept connections."""

    def __init__(self, guard: Guard, secrets: list[bytes]) -> None:
        self._guard, self._secrets = guard, secrets
        self._pool: httpcore.AsyncConnectionPool | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Keep connections while the block runs."""
        async with httpcore.AsyncConnectionPool(
            network_backend=GuardedBackend(self._guard),
            max_connections=AT_ONCE,
            max_keepalive_connections=KEPT_CONNECTIONS,
            keepalive_expiry=KEPT_SECS,
        ) as self._pool:
            yield

    async def post(self, delivery: WebhookDelivery, body: bytes) -> tuple[int | None, str]:
        """Send a delivery. Returns the HTTP status, or None where there was no answer, and a text for the log.

        The text holds no secret of the URL.
        """
        if self._pool is None:
            raise RuntimeError("deliveries are sent only while open() is entered")
        url = delivery.webhook.url
        fields = {**headers(delivery.id, datetime.now(UTC), body, self._secrets), **_of_url(url)}
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECS),
                self._pool.stream("POST", url, headers=list(fields.items()), content=body) as answer,
            ):
                # The body of the answer is not read, however long it is.
                return answer.status, f"{answer.status}"
        except AddressRefused as error:
            return None, str(error)
        except FAILURES as error:
            return None, f"{type(error).__name__} {error}".strip()
        except TimeoutError:
            return None, f"no answer within {TIMEOUT_SECS:g} s"


def _of_url(url: str) -> dict[str, str]:
    """Return the headers that a URL stands for: Host, which httpcore writes without the brackets of IPv6, and Authorization.

    User and password become Basic authentication, as every HTTP client sends them (RFC 7617).
    """
    found = {"host": host_header(url)}
    pair = basic_credentials(url)
    if pair is not None:
        found["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return found
