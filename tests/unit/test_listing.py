"""Pages of the list of jobs, and a job's place in the queue."""

from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.operations.listing import LIMIT_MAX, page, parse_query
from gateway.operations.queue_estimate import Place, place
from gpu_worker.speed import after_job
from schemas.errors import RequestError
from schemas.jobs import JobRecord, JobRequest, JobStatus
from schemas.model import ModelState, ModelStatus, Speed, WorkerStatus

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def record(number: int, secs: int, status: JobStatus = JobStatus.DONE) -> JobRecord:
    return JobRecord(
        id=f"j{number}", status=status, request=JobRequest(), created_at=NOW + timedelta(seconds=secs)
    )


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 7))
def test_pages_show_every_job_once_newest_first(seconds: list[int], limit: int) -> None:
    """Also where several were created in the same moment."""
    records = [record(number, secs) for number, secs in enumerate(seconds)]
    seen: list[JobRecord] = []
    cursor: str | None = ""
    while cursor is not None:
        shown, cursor = page(records, parse_query({"limit": str(limit), "cursor": cursor}))
        assert len(shown) <= limit
        seen += shown
    assert sorted(r.id for r in seen) == sorted(r.id for r in records)
    assert [r.created_at for r in seen] == sorted((r.created_at for r in records), reverse=True)


def test_a_job_that_comes_meanwhile_moves_no_page() -> None:
    records = [record(n, n) for n in range(4)]
    first, cursor = page(records, parse_query({"limit": 2}))
    second, end = page([*records, record(9, 9)], parse_query({"limit": 2, "cursor": cursor}))
    assert [r.id for r in first + second] == ["j3", "j2", "j1", "j0"]
    assert end is None


def test_filters() -> None:
    records = [record(1, 1, JobStatus.FAILED), record(2, 2), record(3, 3, JobStatus.FAILED)]
    assert [r.id for r in page(records, parse_query({"status": "failed"}))[0]] == ["j3", "j1"]
    after = {"created_after": "2026-11-25T13:00:01+01:00"}
    assert [r.id for r in page(records, parse_query(after))[0]] == ["j3", "j2"]
    assert [r.id for r in page(records, parse_query({**after, "status": "failed"}))[0]] == ["j3"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", "0"),
        ("limit", str(LIMIT_MAX + 1)),
        ("limit", "many"),
        ("limit", "²"),
        ("cursor", "nonsense"),
        ("cursor", "é"),
        ("cursor", "WzEsMl0"),
        ("status", "sleeping"),
        ("created_after", "yesterday"),
        ("created_after", "2026-11-25T12:00:00"),
        ("colour", "red"),
    ],
)
def test_a_filter_that_cannot_be_understood_is_named(field: str, value: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_query({field: value})
    assert caught.value.field == field


def worker(job_id: str | None = None, speed: Speed | None = None) -> WorkerStatus:
    model = ModelStatus(state=ModelState.READY)
    return WorkerStatus(worker_id="w", at=NOW, model=model, job_id=job_id, speed=speed)


SPEED = Speed(real_time_factor=0.1, audio_secs=300)  # 30 s a job


@pytest.mark.parametrize(
    ("job", "workers", "position", "secs"),
    [
        ("a", [], 1, None),
        ("c", [worker()], 3, None),
        ("a", [worker(speed=SPEED)], 1, 30),
        ("c", [worker(speed=SPEED)], 3, 90),
        ("a", [worker("a", SPEED)], None, None),
        ("b", [worker("a", SPEED)], 1, 45),
        ("c", [worker("a", SPEED), worker("b", SPEED)], 1, 30),
        ("gone", [worker(speed=SPEED)], None, None),
    ],
)
def test_places(job: str, workers: list[WorkerStatus], position: int | None, secs: int | None) -> None:
    eta = None if secs is None else NOW + timedelta(seconds=secs)
    assert place(job, ["a", "b", "c"], workers, NOW) == Place(position=position, eta=eta)


def test_speed_follows_the_last_jobs() -> None:
    speed = after_job(None, audio_secs=100, secs=10)
    assert speed == Speed(real_time_factor=0.1, audio_secs=100)
    for _ in range(30):
        speed = after_job(speed, audio_secs=10, secs=5)
    assert speed.real_time_factor == pytest.approx(0.5, rel=0.01)
    assert speed.audio_secs == pytest.approx(10, rel=0.01)


def test_a_job_of_one_sample_does_not_spoil_the_speed() -> None:
    speed = after_job(None, audio_secs=100, secs=10)
    after = after_job(speed, audio_secs=1 / 16000, secs=0.5)
    assert after.real_time_factor < 1
    assert after_job(None, audio_secs=0, secs=0.5).real_time_factor == 0.5
