"""What is kept and for how long: idempotency keys, audio."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.sweep import ORPHAN_AGE, superfluous
from schemas.errors import RequestError
from schemas.idempotency import STALE, Claim, Standing, entry_name, fingerprint, standing
from schemas.jobs import JobRecord, JobRequest, JobStatus
from schemas.options import TranscribeOptions

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("claim", "age", "expected"),
    [
        (None, 0 * STALE, Standing.FREE),
        (Claim(job_id="j", renewed_at=NOW), 0 * STALE, Standing.RUNNING),
        (Claim(job_id="j", renewed_at=NOW - 9 * STALE), STALE, Standing.RUNNING),  # a clock that is wrong
        (Claim(job_id="j", renewed_at=NOW), STALE + SECOND, Standing.FREE),
        (Claim(job_id="j", renewed_at=NOW, fingerprint="f"), 0 * STALE, Standing.USED),
        (Claim(job_id="j", renewed_at=NOW, fingerprint="f"), 100 * STALE, Standing.USED),
    ],
)
def test_what_a_key_means(claim: Claim | None, age: timedelta, expected: Standing) -> None:
    assert standing(claim, age) is expected


def test_the_fingerprint_is_of_the_content_and_not_of_the_time() -> None:
    request = JobRequest(filename="a.wav", created_at=NOW)
    same = msgspec.structs.replace(request, created_at=NOW + SECOND)
    assert fingerprint(request, "d") == fingerprint(same, "d")
    others = [
        (msgspec.structs.replace(request, options=TranscribeOptions(language="de")), "d"),
        (msgspec.structs.replace(request, webhook_url="https://example.com"), "d"),
        (request, "e"),
    ]
    assert len({fingerprint(r, d) for r, d in [(request, "d"), *others]}) == 4


def test_keys_have_limits() -> None:
    assert entry_name("a key: with / anything *>.") != entry_name("b")
    for bad in ("", "x" * 256, "ü", "a\nb"):
        with pytest.raises(RequestError) as caught:
            entry_name(bad)
        assert caught.value.field == "Idempotency-Key"


def record(name: str, ended: datetime | None, audio: str | None = None) -> JobRecord:
    status = JobStatus.QUEUED if ended is None else JobStatus.DONE
    request = JobRequest(audio=audio)
    return JobRecord(id=name, status=status, request=request, created_at=NOW, completed_at=ended)


@pytest.mark.parametrize(
    ("records", "age", "retention", "goes"),
    [
        ([], ORPHAN_AGE - SECOND, 0, False),
        ([], ORPHAN_AGE, 0, True),
        ([record("a", None)], 100 * ORPHAN_AGE, 0, False),
        ([record("a", NOW)], SECOND, 0, True),
        ([record("a", NOW)], SECOND, 10, False),
        ([record("a", NOW - 10 * SECOND)], 20 * SECOND, 10, True),
        ([record("other", NOW, audio="a")], SECOND, 0, True),
        (
            [record("one", NOW - 99 * SECOND, audio="a"), record("two", None, audio="a")],
            100 * ORPHAN_AGE,
            0,
            False,
        ),
        ([record("one", NOW - 99 * SECOND, audio="a"), record("two", NOW, audio="a")], ORPHAN_AGE, 10, False),
        ([record("two", NOW, audio="a"), record("one", NOW - 99 * SECOND, audio="a")], ORPHAN_AGE, 10, False),
    ],
)
def test_which_audio_goes(records: list[JobRecord], age: timedelta, retention: int, goes: bool) -> None:
    found = superfluous({"a": NOW - age}, records, NOW, retention * SECOND)
    assert found == (["a"] if goes else [])
