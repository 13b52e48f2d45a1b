"""Which worker counts, whether a job is taken now, and what those are told who must wait."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.admission import (
    MENDING_SECS,
    NEAREST_FIRST,
    USUAL_LOAD_SECS,
    nearest_first,
    prefers_async,
    reasons,
    refusal,
    storage_status,
)
from schemas.errors import ErrorCode
from schemas.model import ModelState, ModelStatus, Room, WorkerStatus

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def worker(state: ModelState, worker_id: str = "w", **model: object) -> WorkerStatus:
    status = ModelStatus(state=state, worker_id=worker_id, **model)  # type: ignore[arg-type] # given by each test
    return WorkerStatus(worker_id=worker_id, at=NOW, model=status)


def test_every_state_has_its_rank() -> None:
    assert set(NEAREST_FIRST) == set(ModelState) - {ModelState.OFFLINE, ModelState.UNKNOWN}
    mixed = [worker(state, f"w{n}") for n, state in enumerate(reversed(NEAREST_FIRST))]
    assert [w.model.state for w in nearest_first(mixed)] == list(NEAREST_FIRST)


@pytest.mark.parametrize("other", [s for s in NEAREST_FIRST if s is not ModelState.READY])
def test_one_ready_worker_is_enough(other: ModelState) -> None:
    assert refusal([worker(other, "a"), worker(ModelState.READY, "b")], NOW) is None


@pytest.mark.parametrize(
    ("found", "code", "retry_after", "load"),
    [
        ([], ErrorCode.MODEL_NOT_READY, MENDING_SECS, False),
        ([worker(ModelState.UNLOADED)], ErrorCode.MODEL_NOT_READY, int(USUAL_LOAD_SECS), True),
        ([worker(ModelState.UNLOADED, load_secs=7.2)], ErrorCode.MODEL_NOT_READY, 8, True),
        ([worker(ModelState.UNLOADED, load_secs=0.2)], ErrorCode.MODEL_NOT_READY, 1, True),
        (
            [worker(ModelState.LOADING, load_secs=7.2, since=NOW - timedelta(seconds=5))],
            ErrorCode.MODEL_NOT_READY,
            3,
            True,
        ),
        (
            [worker(ModelState.LOADING, load_secs=7.2, since=NOW - timedelta(seconds=50))],
            ErrorCode.MODEL_NOT_READY,
            1,
            True,
        ),
        ([worker(ModelState.UNLOADING, load_secs=7.2)], ErrorCode.MODEL_NOT_READY, 8, True),
        (
            [worker(ModelState.WAITING_FOR_GPU, reason="full", retry_interval_secs=30.0)],
            ErrorCode.MODEL_NOT_READY,
            30,
            False,
        ),
        ([worker(ModelState.ERROR, reason="bad file")], ErrorCode.MODEL_UNAVAILABLE, MENDING_SECS, False),
    ],
)
def test_who_must_wait_is_told_for_how_long(
    found: list[WorkerStatus], code: ErrorCode, retry_after: int, load: bool
) -> None:
    why = refusal(found, NOW)
    assert why is not None
    assert (why.code, why.retry_after, why.load) == (code, retry_after, load)
    if found and found[0].model.reason:
        assert found[0].model.reason in why.detail


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("", False),
        ("respond-async", True),
        ("wait=10, Respond-Async", True),
        ("respond-async; foo=1", True),
        ("respond-asynchronously", False),
    ],
)
def test_prefer(header: str | None, expected: bool) -> None:
    assert prefers_async(header) is expected


@pytest.mark.parametrize(
    ("used", "limit", "refused", "full"),
    [
        (0, None, False, False),
        (0, None, True, True),
        (96, 100, False, False),
        (97, 100, False, True),
        (0, 100, True, True),
    ],
)
def test_when_the_store_is_full(used: int, limit: int | None, refused: bool, full: bool) -> None:
    found = storage_status(Room(used=used, limit=limit), refused)
    assert (found.audio_used, found.audio_limit, found.full) == (used, limit, full)


def test_every_reason_is_told() -> None:
    roomy = storage_status(Room(used=1, limit=100), refused=False)
    full = storage_status(Room(used=99, limit=100), refused=False)
    assert reasons([worker(ModelState.READY)], roomy) == []
    assert reasons([], full) == [
        "The store is full: audio has 99 of 100 bytes; uploads are refused.",
        "No worker is running.",
    ]
    broken = msgspec.structs.replace(worker(ModelState.ERROR), trouble="The spool is full")
    assert [reason.split(":")[0] for reason in reasons([broken], full)] == [
        "The store is full",
        "The model cannot be loaded",
        "The worker w takes no jobs",
    ]
