"""What clients are told of an error of nats-server, over both doors. Pure."""

from broker.errors import BrokerError, Refused, StorageFull, TooLarge
from schemas.errors import ErrorCode, RequestError

BROKER_RETRY_SECS = 2
"""Retry-After where nats-server does not answer."""
ROOM_RETRY_SECS = 60
"""Retry-After where the store is full: jobs have to end, or somebody has to make room."""


def broker_problem(error: BrokerError) -> RequestError:
    """Return the error that the client gets."""
    match error:
        case StorageFull():
            return RequestError(ErrorCode.STORAGE_FULL, f"{error}.", retry_after=ROOM_RETRY_SECS)
        case TooLarge():
            return RequestError(ErrorCode.REQUEST_TOO_LARGE, f"{error}.")
        case Refused():
            return RequestError(ErrorCode.BROKER_REFUSED, f"{error}.")
        case _:
            detail = "The message broker did not answer; try again."
            return RequestError(ErrorCode.BROKER_UNAVAILABLE, detail, retry_after=BROKER_RETRY_SECS)
