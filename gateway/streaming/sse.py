"""Server-sent events: what a client is sent for each event of a job. Pure: events in, bytes out."""

from functools import lru_cache

import msgspec

from schemas import events, inputs, subjects
from schemas.model import ModelState, ModelStatus, event_name
from schemas.subjects import QUEUED

HEARTBEAT = b":\n"
"""One comment line. A blank line after it would, for some clients, end an event that has an id and no data."""

_MODEL_EVENTS = frozenset(event_name(state) for state in ModelState)


def frame(event: str, data: dict[str, object], seq: int | None) -> bytes:
    """One event; `seq` (its stream sequence) becomes the id that Last-Event-ID resumes after."""
    head = "" if seq is None else f"id: {seq}\n"
    body = msgspec.json.encode({"type": event, **data}).decode()
    return f"{head}event: {event}\ndata: {body}\n\n".encode()


def is_terminal(event_type: str) -> bool:
    return event_type in events.TERMINAL_TYPES


@lru_cache(maxsize=32)
def render(event_type: str, body: bytes, job_id: str, seq: int) -> bytes | None:
    """The frame for a stored event that is not terminal; None for one that clients are not told of.

    Cached: the same event goes to all clients of its job, at about the same time. Raises inputs.Unreadable.
    """
    if event_type == QUEUED:
        return frame(QUEUED, {"job_id": job_id}, seq)
    match inputs.job_event(subjects.event(job_id, event_type), body):
        case events.Started() as started:
            return frame(event_type, {"job_id": job_id, "attempt": started.attempt}, seq)
        case events.Progress(percent=percent):
            return frame(event_type, {"percent": percent}, seq)
        case events.SegmentAdded(segment=segment):
            return frame(event_type, {"segment": segment}, seq)
        case events.Invalid() as invalid:
            return frame(event_type, {"code": invalid.code, "message": invalid.message}, seq)
        case events.Done() | events.JobFailed() | events.JobCancelled() | None:
            return None


def model_status(status: ModelStatus) -> bytes:
    """What a client sees first that does not resume: how things are."""
    return frame("model_status", {"model": status}, None)


def model_event(body: bytes, seq: int) -> bytes | None:
    """The frame for a stored event of a model; None for a type that this version does not know. Raises inputs.Unreadable."""
    event = inputs.MODEL_EVENT.read(body)
    if event.type not in _MODEL_EVENTS:
        return None
    return frame(event.type, {"worker_id": event.worker_id, "at": event.at, "model": event.model}, seq)


def last_event_id(text: str | None) -> int:
    """The sequence after which to resume; 0, the beginning, for anything that is no id of ours."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 20 else 0
