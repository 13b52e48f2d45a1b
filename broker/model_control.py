"""Ask a worker about its model: request and reply on the model subjects."""

import msgspec
from nats.aio.client import Client

from broker.connection import mapped_errors
from broker.errors import BrokerError
from schemas.model import ModelStatus
from schemas.subjects import MODEL_PREFIX

ERROR_HEADER, ERROR_CODE_HEADER = "Nats-Service-Error", "Nats-Service-Error-Code"
"""As in NATS's ADR-32, micro services."""


class ModelRefused(BrokerError):
    """The worker says no; the sentence says why."""


async def request_model(client: Client, action: str, timeout_secs: float) -> ModelStatus:
    """`action` is status, load or unload; the model's status after it. Raises ModelRefused, Unavailable."""
    with mapped_errors():
        reply = await client.request(f"{MODEL_PREFIX}.{action}", b"", timeout=timeout_secs)
    if reply.headers and ERROR_HEADER in reply.headers:
        raise ModelRefused(reply.headers[ERROR_HEADER])
    return msgspec.json.decode(reply.data, type=ModelStatus)
