"""Server-sent events: the frame of each event. Pure: events in, bytes out."""

from functools import lru_cache

import msgspec

from schemas import events, inputs, subjects
from schemas.model import ModelState, ModelStatus, event_name
from schemas.subjects import QUEUED

HEARTBEAT = b":\n"
"""One comment line. With a blank line behind it, some clients would see an event that has an id and no data."""

_MODEL_EVENTS = frozenset(event_name(state) for state in ModelState)


def frame(event: str, data: dict[str, object], seq: int | None) -> bytes:
    """Return the frame of one event. `seq`, its stream sequence, becomes the id that a client resumes behind."""
    head = "" if seq is None else f"id: {seq}\n"
    body = msgspec.json.encode({"type": event, **data}).decode()
    return f"{head}event: {event}\ndata: {body}\n\n".encode()


def is_terminal(event_type: str) -> bool:
    """Whether an event of this type is the last one of its job."""
    return event_type in events.TERMINAL_TYPES


@lru_cache(maxsize=32)
def render(event_type: str, body: bytes, job_id: str, seq: int) -> bytes | None:
    """Return the frame of a stored event that is not terminal; None for one that clients do not get.

    Cached, because the same event goes to all clients of its job at about the same time. Raises inputs.Unreadable.
    """
    if event_type == QUEUED:
        return frame(QUEUED, {"job_id": job_id}, seq)
    event = inputs.job_event(subjects.event(job_id, event_type), body)
    shown = event.for_clients() if event is not None else None
    return frame(event_type, shown, seq) if shown is not None else None


def model_status(status: ModelStatus) -> bytes:
    """Return the frame that a client gets first which does not resume: the present status."""
    return frame("model_status", {"model": status}, None)


def model_event(body: bytes, seq: int) -> bytes | None:
    """Return the frame of a stored model event; None for a type of a later version. Raises inputs.Unreadable."""
    event = inputs.MODEL_EVENT.read(body)
    if event.type not in _MODEL_EVENTS:
        return None
    return frame(event.type, {"worker_id": event.worker_id, "at": event.at, "model": event.model}, seq)


def last_event_id(text: str | None) -> int:
    """Return the sequence behind which to resume; 0, the beginning, for any text that is no id of ours."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 20 else 0
