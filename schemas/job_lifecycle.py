"""The job's state machine: what may happen to a job in which status, and what that makes of its record.

Theory of operation
1. A job exists from the moment when its submission is stored in WHISPER_JOBS. A job without a record is `queued`.
2. Everything that happens to it is a Change. `advance` is the only place where a status changes.
3. TRANSITIONS is a table; a missing key is an illegal change. Terminal statuses have no row, so they are final (`unknown`, a
   status of a later version, has none either). The first terminal record that is stored wins, because records are stored by
   compare-and-set.
4. `attempts` counts the claims since the last progress. A commit resets it to 1. A claim that is released does not count, and
   neither does one whose worker turns out to be alive (Survived). `claims` has the ids of the counted claims, so that a change
   which is sent again because its answer was lost counts once. `preparations` counts the worker processes in a row that began
   to fetch and decode the job and were never heard of again: a file that kills its worker there must not do so for ever.
5. Each claim by a worker raises `epoch`. A change that carries an older epoch is illegal: the worker that sent it
   has lost the job to another one and must stop.
6. Nothing here reads a clock: times come with the change.
A new change or status needs a row here, its fields in `_fields`, and its line in the picture of docs/architecture.md.
"""

import msgspec

from schemas.errors import JobError
from schemas.jobs import JobRecord, JobStatus, Timestamp, Timings
from schemas.recordings import Source, Warnings


class Change(msgspec.Struct, kw_only=True, frozen=True):
    """Base of all changes."""

    at: Timestamp
    """When it happens."""


class Claimed(Change, kw_only=True, frozen=True):
    """A worker takes the job, for the first time or again."""

    worker_id: str
    claim_id: str = ""
    """Names this claim. The change may be sent again with the same id."""
    duration_secs: float | None = None
    stretches: int | None = None
    """Number of stretches in the plan; None where there is no plan, because the audio cannot be used."""
    source: Source | None = None
    warnings: Warnings = ()


class PreparationBegun(Change, kw_only=True, frozen=True):
    """A worker has the job in hand and fetches, decodes and plans it. It does not own the job yet."""

    run_id: str
    """Names the worker's process. A process that begins the same job again was not killed by it."""


class PreparationEnded(Change, kw_only=True, frozen=True):
    """The worker has ended the preparation, or has given the job back."""


class OwnedChange(Change, kw_only=True, frozen=True):
    """Base of changes that only the claim with this epoch may make."""

    epoch: int


class Committed(OwnedChange, kw_only=True, frozen=True):
    """One more stretch is transcribed, and its segments are in the event log."""

    committed: int
    """How many stretches that makes."""
    progress: int
    language: str | None
    language_probability: float | None


class Released(OwnedChange, kw_only=True, frozen=True):
    """The worker puts the job back because it stops or the GPU is wanted. The job resumes at its first uncommitted stretch."""


class Survived(Change, kw_only=True, frozen=True):
    """A worker that has lost the job to another one is alive. It was only cut off, so that its claim was no attempt."""

    claim_id: str


class Completed(OwnedChange, kw_only=True, frozen=True):
    """The job is transcribed."""

    timings: Timings | None = None


class Failed(OwnedChange, kw_only=True, frozen=True):
    """The job has failed for good."""

    error: JobError


class Abandoned(Change, kw_only=True, frozen=True):
    """The job fails although nobody has claimed it: no worker survives its preparation, or it cannot be worked on."""

    error: JobError


class Cancelled(Change, kw_only=True, frozen=True):
    """A client does not want the job any more."""


class IllegalChange(Exception):
    """The job is not in a status that allows this, or it belongs to a newer claim."""


_Q, _R = JobStatus.QUEUED, JobStatus.RUNNING

TRANSITIONS: dict[JobStatus, dict[type[Change], JobStatus]] = {
    _Q: {
        PreparationBegun: _Q,
        PreparationEnded: _Q,
        Survived: _Q,
        Claimed: _R,
        Abandoned: JobStatus.FAILED,
        Cancelled: JobStatus.CANCELLED,
    },
    _R: {
        PreparationBegun: _R,
        PreparationEnded: _R,
        Survived: _R,
        Claimed: _R,
        Abandoned: JobStatus.FAILED,
        Committed: _R,
        Released: _Q,
        Completed: JobStatus.DONE,
        Failed: JobStatus.FAILED,
        Cancelled: JobStatus.CANCELLED,
    },
}

TERMINAL = frozenset(JobStatus) - TRANSITIONS.keys() - {JobStatus.UNKNOWN}
"""Statuses that a job never leaves: those that have no row in TRANSITIONS. `unknown` is a status of a later version."""


def advance(record: JobRecord, change: Change) -> JobRecord:
    """Return the record after the change; `record` itself is not altered. Raises IllegalChange."""
    status = TRANSITIONS.get(record.status, {}).get(type(change))
    if status is None:
        raise IllegalChange(f"{type(change).__name__} is not possible for a job that is {record.status}")
    if isinstance(change, OwnedChange) and change.epoch != record.epoch:
        raise IllegalChange(f"claim {change.epoch} has lost the job to claim {record.epoch}")
    if isinstance(change, Claimed) and change.claim_id in record.claims[:-1]:
        raise IllegalChange("another claim has come after this one")
    return msgspec.structs.replace(record, status=status, **_fields(record, change))


def _fields(record: JobRecord, change: Change) -> dict[str, object]:
    match change:
        case PreparationBegun():
            is_another = record.prepared_by != change.run_id
            return {"preparations": record.preparations + is_another, "prepared_by": change.run_id}
        case PreparationEnded():
            return {"preparations": 0, "prepared_by": None}
        case Claimed() | Committed() | Released() | Survived():
            return _fields_of_claims(record, change)
        case Completed():
            return {"progress": 100, "completed_at": change.at, "timings": change.timings}
        case Failed() | Abandoned():
            return {"error": change.error, "completed_at": change.at}
        case Cancelled():
            return {"completed_at": change.at}
        case _:
            raise TypeError(f"no rule for {type(change).__name__}")


def _fields_of_claims(
    record: JobRecord, change: Claimed | Committed | Released | Survived
) -> dict[str, object]:
    match change:
        case Claimed() if change.claim_id and change.claim_id in record.claims:
            # The claim is sent again, because the answer to it was lost.
            return {}
        case Claimed():
            return {
                "worker_id": change.worker_id,
                "epoch": record.epoch + 1,
                "attempts": record.attempts + 1,
                "claims": (*record.claims, change.claim_id) if change.claim_id else record.claims,
                "started_at": record.started_at or change.at,
                "duration_secs": change.duration_secs,
                "stretches": change.stretches,
                "source": change.source,
                "warnings": change.warnings,
            }
        case Committed():
            return {
                "committed": change.committed,
                "attempts": 1,
                "claims": record.claims[-1:],
                "progress": max(record.progress, change.progress),
                "language": change.language,
                "language_probability": change.language_probability,
            }
        case Released():
            return {"worker_id": None, "attempts": record.attempts - 1, "claims": record.claims[:-1]}
        case Survived() if change.claim_id not in record.claims:
            return {}
        case Survived():
            claims = tuple(claim for claim in record.claims if claim != change.claim_id)
            return {"attempts": record.attempts - 1, "claims": claims}
