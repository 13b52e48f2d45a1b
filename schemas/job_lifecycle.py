"""The job's state machine: what may happen to a job in which status, and what that makes of its record.

Theory of operation
1. A job exists from the moment its submission is stored in WHISPER_JOBS. A job without a record is `queued`.
2. Everything that happens to it is a Change. `advance` is the only place where a status changes.
3. TRANSITIONS is a table; a missing key is the illegal change. Terminal statuses have no row, so they are final
   (nor has `unknown`, a status of a later version):
   whoever stores a terminal record first wins, because records are stored by compare-and-set.
4. `attempts` counts claims since the last progress: a commit forgives the earlier ones, a release is none, and neither
   is one whose worker has outlived it (Survived). `claims` has their ids, so that a change which is sent again because
   its answer was lost counts once.
   `preparations` counts the worker processes in a row that began to fetch and decode it and were not heard of again: a
   file that kills its worker there must not do so for ever.
5. Each claim by a worker raises `epoch`. A change that carries an older epoch is illegal: the worker that sent it
   has lost the job to another one and must stop.
6. Nothing here reads a clock: times come with the change.
If you add a change, add its row here, its handling in `advance`, and see docs/architecture.md for the picture.
"""

import msgspec

from schemas.errors import JobError
from schemas.jobs import JobRecord, JobStatus, Timestamp, Timings


class Change(msgspec.Struct, kw_only=True, frozen=True):
    """Base of all changes; `at` is when it happens."""

    at: Timestamp


class Claimed(Change, kw_only=True, frozen=True):
    """A worker takes the job (again)."""

    worker_id: str
    claim_id: str = ""
    """Of this claim alone. With the same one it may be sent again."""
    duration_secs: float | None = None
    stretches: int | None = None
    """The plan; None where there is none, because the audio cannot be used."""


class PreparationBegun(Change, kw_only=True, frozen=True):
    """A worker has the job in hand and fetches, decodes and plans. It is not its owner yet."""

    run_id: str
    """Of the worker's process: one that begins again has not died of it."""


class PreparationEnded(Change, kw_only=True, frozen=True):
    """It came through that, or gave the job back."""


class OwnedChange(Change, kw_only=True, frozen=True):
    """A change that only the claim with this epoch may make."""

    epoch: int


class Committed(OwnedChange, kw_only=True, frozen=True):
    """One more stretch is transcribed and its segments are in the event log."""

    committed: int
    progress: int
    language: str | None
    language_probability: float | None


class Released(OwnedChange, kw_only=True, frozen=True):
    """The worker puts the job back (shutdown, GPU handed back); it resumes at the first uncommitted stretch."""


class Survived(Change, kw_only=True, frozen=True):
    """A worker that has lost the job to another one lives: it was only cut off, and that was no attempt."""

    claim_id: str


class Completed(OwnedChange, kw_only=True, frozen=True):
    timings: Timings | None = None


class Failed(OwnedChange, kw_only=True, frozen=True):
    error: JobError


class Abandoned(Change, kw_only=True, frozen=True):
    """No worker lives through preparing it."""

    error: JobError


class Cancelled(Change, kw_only=True, frozen=True):
    pass


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

TERMINAL = frozenset({JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED})


def advance(record: JobRecord, change: Change) -> JobRecord:
    """The record after the change. Raises IllegalChange; `record` itself is never altered."""
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
            return {}  # the answer to it was lost
        case Claimed():
            return {
                "worker_id": change.worker_id,
                "epoch": record.epoch + 1,
                "attempts": record.attempts + 1,
                "claims": (*record.claims, change.claim_id) if change.claim_id else record.claims,
                "started_at": record.started_at or change.at,
                "duration_secs": change.duration_secs,
                "stretches": change.stretches,
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
