"""The typed bucket on a real nats-server: what is missing, deleted or unreadable, and who wins a race."""

from datetime import UTC, datetime, timedelta

import pytest
from nats.js import JetStreamContext

from broker.bucket import Bucket
from broker.errors import Conflict
from schemas.idempotency import Claim
from schemas.inputs import CLAIM
from schemas.subjects import IDEMPOTENCY_BUCKET, kv_key

FIRST = Claim(job_id="first", renewed_at=datetime(2026, 11, 26, tzinfo=UTC))
SECOND = Claim(job_id="second", renewed_at=datetime(2026, 11, 26, tzinfo=UTC))


@pytest.fixture
async def bucket(js: JetStreamContext) -> Bucket[Claim]:
    return await Bucket.open(js, IDEMPOTENCY_BUCKET, lambda _key, body: CLAIM.read(body))


async def test_a_key_that_was_never_written(bucket: Bucket[Claim]) -> None:
    for entry in (await bucket.get("k"), await bucket.get_from_leader("k")):
        assert (entry.value, entry.revision, entry.is_there) == (None, 0, False)


async def test_one_of_two_writers_wins(bucket: Bucket[Claim]) -> None:
    revision = await bucket.create("k", FIRST)
    with pytest.raises(Conflict):
        await bucket.create("k", SECOND)
    newer = await bucket.update("k", SECOND, revision)
    with pytest.raises(Conflict):
        await bucket.update("k", FIRST, revision)
    with pytest.raises(Conflict):
        await bucket.delete("k", revision)
    for entry in (await bucket.get("k"), await bucket.get_from_leader("k")):
        assert (entry.value, entry.revision, entry.is_there) == (SECOND, newer, True)


async def test_a_deleted_key_can_be_written_again(bucket: Bucket[Claim]) -> None:
    await bucket.delete("k", await bucket.create("k", FIRST))
    found, from_leader = await bucket.get("k"), await bucket.get_from_leader("k")
    assert (found.value, found.is_there) == (None, False) == (from_leader.value, from_leader.is_there)
    assert found.revision == from_leader.revision > 0
    assert [value async for value in bucket.values()] == []
    await bucket.update("k", SECOND, found.revision)
    assert (await bucket.get("k")).value == SECOND


async def test_a_purged_key_leaves_nothing(bucket: Bucket[Claim]) -> None:
    await bucket.create("k", FIRST)
    await bucket.create("other", SECOND)
    await bucket.purge("k")
    await bucket.purge("k")
    assert (await bucket.get("k")).revision == 0
    assert [value async for value in bucket.values()] == [SECOND]


async def test_what_cannot_be_read_is_missing_but_is_there(
    bucket: Bucket[Claim], js: JetStreamContext
) -> None:
    await js.publish(kv_key(IDEMPOTENCY_BUCKET, "k"), b"\xff nonsense")
    entry = await bucket.get("k")
    assert (entry.value, entry.is_there) == (None, True)
    assert entry == await bucket.get("k")
    assert [value async for value in bucket.values()] == []
    await bucket.update("k", FIRST, entry.revision)
    assert (await bucket.get("k")).value == FIRST


async def test_the_age_is_by_the_clock_of_the_server(bucket: Bucket[Claim]) -> None:
    revision = await bucket.create("k", FIRST)
    assert timedelta() <= await bucket.age(revision) < timedelta(seconds=10)
    await bucket.update("k", SECOND, revision)
    assert await bucket.age(revision) == timedelta()
