"""What an error of nats-py or of nats-server's API means: away, refused, full, or a lost race. Pure.

The numbers are JetStream's `err_code` (nats-server's server/errors.json).
"""

import msgspec
import nats.errors
from nats.js.errors import APIError, InvalidKeyError, KeyWrongLastSequenceError, NoStreamResponseError

from broker.errors import BrokerError, Conflict, Refused, StorageFull, SubjectFull, TooLarge, Unavailable

WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
"""Codes of a failed compare-and-set: wrong last sequence, of the stream or of the subject."""
STORE_REFUSES = 10077
"""Code of any refusal to store: max_msgs, max_bytes, max_msgs_per_subject, an error of the disk."""
DISK_FULL = "no space left on device"
"""Part of the error text where the disk was full. nats-server reports it at the next purge or deletion.

A publish to that stream gets no answer at all, and both stay so until nats-server is restarted (2.15.1)."""
PER_SUBJECT = "per subject"
"""Only the error text distinguishes this reason of STORE_REFUSES from the others, so that only /health depends on it."""
NO_ROOM = frozenset({STORE_REFUSES, 10002, 10023, 10028, 10047})
"""Codes for no room: of the stream, and of the limits of the account and the server (resources, memory, storage)."""
NO_JETSTREAM = frozenset({10039, 10076})
"""Codes for JetStream that is not enabled: for the account, or at all."""
MESSAGE_TOO_LARGE = 10054
NEVER = (nats.errors.BadSubjectError, nats.errors.BadHeaderError, InvalidKeyError)
"""Errors for a subject, header or key that no server accepts."""


class Condition(msgspec.Struct, frozen=True):
    """What is known of the connection besides the error."""

    has_jetstream: bool = True
    """Whether the server has JetStream, or is in a cluster where another server may have it."""
    denied: str | None = None
    """What the server has denied for want of a permission since the request was made; None for nothing.

    It reports that outside the request, which gets no answer at all then."""


def verdict(error: Exception, condition: Condition) -> BrokerError:
    """Return the error that is raised in place of `error`."""
    match error:
        case KeyWrongLastSequenceError():
            return Conflict(str(error))
        case APIError():
            return _api_verdict(error, condition)
        case nats.errors.MaxPayloadError():
            return TooLarge("the message is larger than the server's max_payload")
        case NoStreamResponseError() | nats.errors.NoRespondersError() if not condition.has_jetstream:
            return Refused("this nats-server has no JetStream")
        case TimeoutError() if condition.denied is not None:
            return Refused(condition.denied)
        case _ if isinstance(error, NEVER):
            return Refused(f"{type(error).__name__}: {error}")
        case _:
            return Unavailable(f"{type(error).__name__}: {error}")


def _api_verdict(error: APIError, condition: Condition) -> BrokerError:
    if error.err_code in WRONG_LAST_SEQUENCE:
        return Conflict(str(error))
    if error.err_code == STORE_REFUSES and PER_SUBJECT in (error.description or ""):
        return SubjectFull(f"nats-server: {error.description} ({error.err_code})")
    if error.err_code in NO_ROOM or DISK_FULL in (error.description or ""):
        return StorageFull(f"nats-server has no room: {error.description} ({error.err_code})")
    if error.err_code in NO_JETSTREAM or (error.err_code is None and not condition.has_jetstream):
        return Refused("this nats-server has no JetStream")
    if error.err_code == MESSAGE_TOO_LARGE:
        return TooLarge(f"the message is larger than its stream takes: {error.description}")
    if error.code == 400 and error.err_code is not None:
        return Refused(f"nats-server refuses the request: {error.description} ({error.err_code})")
    return Unavailable(str(error))
