"""Every event of a job: the body of a message on `whisper.events.job.<job_id>.<type>`.

`queued` is not here: nats-server makes it of the submission itself (a republish), so its body is the JobRequest.
schemas/inputs.py reads them; an event of a type unknown to this version is read as None.
"""

import msgspec

from schemas.errors import ErrorCode
from schemas.jobs import VERSION, JobRecord, Segment, Timestamp
from schemas.limits import Count, Label, Name, Percent, Token


class Event(msgspec.Struct, kw_only=True, frozen=True, tag_field="type"):
    """Base: `at` is when it happened."""

    v: int = VERSION
    job_id: Token
    at: Timestamp


class Started(Event, kw_only=True, frozen=True, tag="started"):
    """A worker has taken the job; comes again after a crash or a release."""

    worker_id: Label
    attempt: Count


class Progress(Event, kw_only=True, frozen=True, tag="progress"):
    percent: Percent


class SegmentAdded(Event, kw_only=True, frozen=True, tag="segment"):
    """One more piece of the transcript. Each index appears once, in order, without a gap."""

    segment: Segment


class Done(Event, kw_only=True, frozen=True, tag="done"):
    """The job's record; its segments are the job's `segment` events."""

    record: JobRecord


class JobFailed(Event, kw_only=True, frozen=True, tag="failed"):
    record: JobRecord


class JobCancelled(Event, kw_only=True, frozen=True, tag="cancelled"):
    record: JobRecord


class Invalid(Event, kw_only=True, frozen=True, tag="invalid"):
    """A submission that cannot be used. It is kept in the dead-letter stream; the job does not exist by it."""

    code: ErrorCode
    message: str
    field: Name | None = None
    """The offending field, where there is one."""


JobEvent = Started | Progress | SegmentAdded | Done | JobFailed | JobCancelled | Invalid
TerminalEvent = Done | JobFailed | JobCancelled

TERMINAL_TYPES = frozenset({"done", "failed", "cancelled"})
KNOWN_TYPES = frozenset({"started", "progress", "segment", "invalid"}) | TERMINAL_TYPES


def event_type(event: JobEvent | type[JobEvent]) -> str:
    """The last token of its subject."""
    return str(event.__struct_config__.tag)


def terminal_event(record: JobRecord, at: Timestamp) -> TerminalEvent:
    """The event that tells of a record's end. Raises ValueError for a record that has not ended."""
    for kind in (Done, JobFailed, JobCancelled):
        if kind.__struct_config__.tag == record.status:
            return kind(job_id=record.id, at=at, record=record)
    raise ValueError(f"job {record.id} is {record.status}, which is no end")
