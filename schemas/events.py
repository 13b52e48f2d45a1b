"""Every event of a job: the body of a message on `whisper.events.job.<job_id>.<type>`.

A new event is a struct here, which is added to the union JobEvent. `queued` is not here: nats-server makes it of the submission itself
(a republish), so that its body is the JobRequest. schemas/inputs.py reads events; one of a later version is read as None.
"""

from typing import get_args

import msgspec

from schemas.errors import ErrorCode
from schemas.jobs import VERSION, JobRecord, Segment, Timestamp
from schemas.limits import Count, Label, Name, Percent, Seconds, Token
from schemas.recordings import Source, Warnings


class Event(msgspec.Struct, kw_only=True, frozen=True, tag_field="type"):
    """Base of all events of a job."""

    v: int = VERSION
    job_id: Token
    at: Timestamp
    """When it happened."""

    def for_clients(self) -> dict[str, object] | None:
        """Return the fields that an event stream shows; None where clients do not get this event as such."""
        return None


class Started(Event, kw_only=True, frozen=True, tag="started"):
    """A worker has taken the job; comes again after a crash or a release."""

    worker_id: Label
    attempt: Count
    duration_secs: Seconds | None = None
    source: Source | None = None
    """What is transcribed; None where the audio cannot be used."""
    warnings: Warnings = ()

    def for_clients(self) -> dict[str, object] | None:
        """See Event.for_clients."""
        return {
            "job_id": self.job_id,
            "attempt": self.attempt,
            "duration_secs": self.duration_secs,
            "source": self.source,
            "warnings": self.warnings,
        }


class Progress(Event, kw_only=True, frozen=True, tag="progress"):
    """More of the audio is transcribed."""

    percent: Percent

    def for_clients(self) -> dict[str, object] | None:
        """See Event.for_clients."""
        return {"percent": self.percent}


class SegmentAdded(Event, kw_only=True, frozen=True, tag="segment"):
    """One more piece of the transcript. Each index appears once, in order, without a gap."""

    segment: Segment

    def for_clients(self) -> dict[str, object] | None:
        """See Event.for_clients."""
        return {"segment": self.segment}


class Done(Event, kw_only=True, frozen=True, tag="done"):
    """The job's record; its segments are the job's `segment` events."""

    record: JobRecord


class JobFailed(Event, kw_only=True, frozen=True, tag="failed"):
    """The job has failed for good. Its record has the error."""

    record: JobRecord


class JobCancelled(Event, kw_only=True, frozen=True, tag="cancelled"):
    """A client has cancelled the job."""

    record: JobRecord


class Invalid(Event, kw_only=True, frozen=True, tag="invalid"):
    """A submission that cannot be used. It is kept in the dead-letter stream; the job does not exist by it."""

    code: ErrorCode
    message: str
    field: Name | None = None
    """The offending field, where there is one."""

    def for_clients(self) -> dict[str, object] | None:
        """See Event.for_clients."""
        return {"code": self.code, "message": self.message}


JobEvent = Started | Progress | SegmentAdded | Done | JobFailed | JobCancelled | Invalid
TerminalEvent = Done | JobFailed | JobCancelled


def event_type(event: JobEvent | type[JobEvent]) -> str:
    """Return the type of an event, which is the last token of its subject."""
    return str(event.__struct_config__.tag)


JOB_EVENTS: tuple[type[JobEvent], ...] = get_args(JobEvent)
"""Every event that this version knows."""
TERMINAL_EVENTS: tuple[type[TerminalEvent], ...] = get_args(TerminalEvent)
"""The events of which exactly one is the last of a job. The type of each is the status that it tells of."""
KNOWN_TYPES = frozenset(event_type(kind) for kind in JOB_EVENTS)
TERMINAL_TYPES = frozenset(event_type(kind) for kind in TERMINAL_EVENTS)


def terminal_event(record: JobRecord, at: Timestamp) -> TerminalEvent:
    """Return the last event of a job that has ended. Raises ValueError for a record that has not."""
    for kind in TERMINAL_EVENTS:
        if event_type(kind) == record.status:
            return kind(job_id=record.id, at=at, record=record)
    raise ValueError(f"job {record.id} is {record.status}, which is no end")
