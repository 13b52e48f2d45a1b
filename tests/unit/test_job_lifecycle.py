"""The job's state machine: every (status, change) pair, and epochs."""

import itertools
from datetime import UTC, datetime

import msgspec
import pytest

from schemas import subjects
from schemas.errors import ErrorCode, JobError
from schemas.events import Done, JobCancelled, JobFailed, event_type, terminal_event
from schemas.inputs import job_event
from schemas.job_lifecycle import (
    TERMINAL,
    TRANSITIONS,
    Abandoned,
    Cancelled,
    Change,
    Claimed,
    Committed,
    Completed,
    Failed,
    IllegalChange,
    PreparationBegun,
    PreparationEnded,
    Released,
    Survived,
    advance,
)
from schemas.jobs import JobRecord, JobRequest, JobStatus

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ERROR = JobError(code=ErrorCode.AUDIO_EMPTY, message="empty")
CHANGES: list[Change] = [
    Claimed(at=NOW, worker_id="w", duration_secs=9.5, stretches=3),
    Committed(at=NOW, epoch=1, committed=1, progress=40, language="de", language_probability=0.9),
    Released(at=NOW, epoch=1),
    Completed(at=NOW, epoch=1),
    Failed(at=NOW, epoch=1, error=ERROR),
    Cancelled(at=NOW),
    PreparationBegun(at=NOW, run_id="r"),
    PreparationEnded(at=NOW),
    Survived(at=NOW, claim_id="c"),
    Abandoned(at=NOW, error=ERROR),
]
LEGAL = {
    (JobStatus.QUEUED, Claimed): JobStatus.RUNNING,
    (JobStatus.QUEUED, Cancelled): JobStatus.CANCELLED,
    (JobStatus.QUEUED, PreparationBegun): JobStatus.QUEUED,
    (JobStatus.QUEUED, Survived): JobStatus.QUEUED,
    (JobStatus.QUEUED, PreparationEnded): JobStatus.QUEUED,
    (JobStatus.QUEUED, Abandoned): JobStatus.FAILED,
    (JobStatus.RUNNING, PreparationBegun): JobStatus.RUNNING,
    (JobStatus.RUNNING, Survived): JobStatus.RUNNING,
    (JobStatus.RUNNING, PreparationEnded): JobStatus.RUNNING,
    (JobStatus.RUNNING, Abandoned): JobStatus.FAILED,
    (JobStatus.RUNNING, Claimed): JobStatus.RUNNING,
    (JobStatus.RUNNING, Committed): JobStatus.RUNNING,
    (JobStatus.RUNNING, Released): JobStatus.QUEUED,
    (JobStatus.RUNNING, Completed): JobStatus.DONE,
    (JobStatus.RUNNING, Failed): JobStatus.FAILED,
    (JobStatus.RUNNING, Cancelled): JobStatus.CANCELLED,
}


def record(status: JobStatus) -> JobRecord:
    return JobRecord(id="j", status=status, request=JobRequest(), created_at=NOW, epoch=1, attempts=1)


@pytest.mark.parametrize(("status", "change"), list(itertools.product(JobStatus, CHANGES)))
def test_every_pair(status: JobStatus, change: Change) -> None:
    before = record(status)
    expected = LEGAL.get((status, type(change)))
    if expected is None:
        with pytest.raises(IllegalChange):
            advance(before, change)
    else:
        assert advance(before, change).status is expected
    assert before == record(status)


def test_terminal_statuses_are_those_without_a_way_out() -> None:
    assert {JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED} == TERMINAL
    assert not TERMINAL & set(TRANSITIONS)


@pytest.mark.parametrize("change", [c for c in CHANGES if hasattr(c, "epoch")])
def test_an_older_claim_can_change_nothing(change: Change) -> None:
    newer = advance(record(JobStatus.RUNNING), Claimed(at=NOW, worker_id="two"))
    assert newer.epoch == 2
    with pytest.raises(IllegalChange, match="lost"):
        advance(newer, change)


def test_a_life() -> None:
    job = JobRecord(id="j", status=JobStatus.QUEUED, request=JobRequest(), created_at=NOW)
    for change in CHANGES[:2]:
        job = advance(job, change)
    assert (job.worker_id, job.stretches, job.committed, job.progress, job.language) == ("w", 3, 1, 40, "de")
    job = advance(job, Completed(at=NOW, epoch=1))
    assert (job.status, job.progress, job.completed_at) == (JobStatus.DONE, 100, NOW)


def test_a_commit_forgives_attempts_and_a_release_is_none() -> None:
    job = record(JobStatus.RUNNING)
    for _ in range(3):
        job = advance(job, Claimed(at=NOW, worker_id="w"))
    assert job.attempts == 4
    job = advance(job, msgspec.structs.replace(CHANGES[1], epoch=job.epoch))
    assert job.attempts == 1
    job = advance(job, Released(at=NOW, epoch=job.epoch))
    assert (job.attempts, job.worker_id) == (0, None)


def claimed(*claim_ids: str) -> JobRecord:
    job = JobRecord(id="j", status=JobStatus.QUEUED, request=JobRequest(), created_at=NOW)
    for claim_id in claim_ids:
        job = advance(job, Claimed(at=NOW, worker_id="w", claim_id=claim_id))
    return job


def test_a_claim_whose_answer_was_lost_counts_once() -> None:
    job = claimed("a", "b", "b")
    assert (job.attempts, job.epoch, job.claims) == (2, 2, ("a", "b"))


def test_a_claim_that_another_has_followed_is_not_made_again() -> None:
    with pytest.raises(IllegalChange, match="another claim"):
        claimed("a", "b", "a")


def test_a_worker_that_has_lost_a_job_and_lives_is_no_attempt() -> None:
    job = claimed("a", "b")
    for _ in range(2):  # an answer may be lost
        job = advance(job, Survived(at=NOW, claim_id="a"))
    assert (job.attempts, job.epoch, job.claims) == (1, 2, ("b",))
    job = advance(job, Released(at=NOW, epoch=2))
    assert (job.attempts, job.claims) == (0, ())


def test_a_commit_forgives_what_was_before_it() -> None:
    job = claimed("a", "b", "c")
    job = advance(job, msgspec.structs.replace(CHANGES[1], epoch=3))
    assert (job.attempts, job.claims) == (1, ("c",))
    assert advance(job, Survived(at=NOW, claim_id="a")).attempts == 1


def test_preparations_count_processes_that_were_not_heard_of_again() -> None:
    job = record(JobStatus.QUEUED)
    for run_id in ("one", "two", "two", "three"):
        job = advance(job, PreparationBegun(at=NOW, run_id=run_id))
    assert job.preparations == 3
    job = advance(job, PreparationEnded(at=NOW))
    assert (job.preparations, job.prepared_by) == (0, None)


def test_progress_never_falls() -> None:
    job = advance(record(JobStatus.RUNNING), CHANGES[1])
    assert advance(job, msgspec.structs.replace(CHANGES[1], progress=10)).progress == 40


@pytest.mark.parametrize(
    ("status", "kind"),
    [(JobStatus.DONE, Done), (JobStatus.FAILED, JobFailed), (JobStatus.CANCELLED, JobCancelled)],
)
def test_terminal_events(status: JobStatus, kind: type) -> None:
    event = terminal_event(record(status), NOW)
    assert type(event) is kind
    assert event_type(event) == status
    assert job_event(subjects.event(event.job_id, event_type(event)), msgspec.json.encode(event)) == event


def test_no_terminal_event_of_a_running_job() -> None:
    with pytest.raises(ValueError, match="no end"):
        terminal_event(record(JobStatus.RUNNING), NOW)


def test_events_of_a_later_version_are_none() -> None:
    assert job_event(subjects.event("x", "sparkle"), b"{}") is None
