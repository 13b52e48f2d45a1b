"""STREAM.INFO of JetStream's API, read by ourselves: nats-py drops the server's time, and is slow with many subjects.

With ten thousand subjects nats-py's way of decoding would hold up the event loop.
"""

from datetime import UTC, datetime

import msgspec
from nats.js import JetStreamContext

from broker.error_mapping import mapped_errors
from broker.errors import Unavailable

REQUEST_SECS = 10.0
"""Timeout of one request."""


class StreamState(msgspec.Struct):
    """The state of a stream."""

    last_seq: int = 0
    subjects: dict[str, int] = {}
    """Number of messages by subject, for the subjects that were asked for."""


class StreamInfo(msgspec.Struct):
    """The part of a response that is used here."""

    ts: datetime = datetime.min.replace(tzinfo=UTC)
    """The server's time."""
    state: StreamState = msgspec.field(default_factory=StreamState)
    error: dict[str, object] | None = None


async def stream_info(js: JetStreamContext, stream: str, subjects: str = "") -> StreamInfo:
    """Ask for the state of a stream; with `subjects` also how many messages each matching subject has. Raises Unavailable."""
    request = msgspec.json.encode({"subjects_filter": subjects}) if subjects else b""
    with mapped_errors():
        answer = await js._nc.request(f"{js._prefix}.STREAM.INFO.{stream}", request, timeout=REQUEST_SECS)
    info = msgspec.json.decode(answer.data, type=StreamInfo)
    if info.error is not None:
        raise Unavailable(f"{stream}: {info.error}")
    return info
