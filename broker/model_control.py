"""Ask a worker about its model: request and reply on the model subjects."""

import msgspec
from nats.aio.client import Client
from nats.errors import NoRespondersError

from broker.error_mapping import mapped_errors
from broker.errors import BrokerError, Refused
from schemas.inputs import MODEL_REPLY, Unreadable
from schemas.model import ModelStatus, UnloadRequest
from schemas.subjects import model_control

TIMEOUT_SECS = 5.0
"""Timeout of a request. Workers answer at once, without waiting for what was asked."""
ERROR_HEADER, ERROR_CODE_HEADER = "Nats-Service-Error", "Nats-Service-Error-Code"
"""Headers of an error answer of a micro service (NATS ADR-32)."""


class ModelRefused(BrokerError):
    """The worker refuses; the sentence says why."""


class NoWorker(BrokerError):
    """No worker answers."""


async def request_model(
    client: Client, action: str, worker_id: str | None = None, *, force: bool = False
) -> ModelStatus:
    """Ask a worker, any one where `worker_id` is None. `action` is `status`, `load` or `unload`.

    Returns the model's status right after the request, without waiting for what was asked. Raises ModelRefused, NoWorker, Refused,
    Unavailable.
    """
    body = msgspec.json.encode(UnloadRequest(force=force)) if action == "unload" else b""
    try:
        with mapped_errors():
            reply = await client.request(model_control(action, worker_id), body, timeout=TIMEOUT_SECS)
    except BrokerError as error:
        if isinstance(error.__cause__, NoRespondersError):
            raise NoWorker("no worker answers") from error
        raise
    if reply.headers and ERROR_HEADER in reply.headers:
        raise ModelRefused(reply.headers[ERROR_HEADER])
    try:
        return MODEL_REPLY.read(reply.data)
    except Unreadable as error:
        raise Refused(f"the worker's answer cannot be read: {error}") from error
