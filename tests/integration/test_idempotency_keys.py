"""Who has an idempotency key, when answers are lost, servers stop and gateways die."""

import asyncio
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from nats.js import JetStreamContext

from broker.errors import Conflict, Unavailable
from broker.idempotency import IdempotencyKeys
from gateway.operations.held_key import HeldKey
from schemas.errors import RequestError
from schemas.idempotency import Claim
from schemas.subjects import IDEMPOTENCY_BUCKET
from tests.support.nats_process import NatsProcess

NAME = "a" * 64
SKEW = timedelta(days=1)


def claim(holder: str) -> Claim:
    """By a gateway whose clock is a day behind."""
    return Claim(job_id=f"job-of-{holder}", renewed_at=datetime.now(UTC) - SKEW, holder=holder)


async def test_a_failing_upload_frees_its_own_key_and_nobody_elses(js: JetStreamContext) -> None:
    keys = await IdempotencyKeys.open(js)
    mine = HeldKey(keys, NAME, claim("mine"), 0)

    async def upload_that_another_takes_for_dead() -> None:
        async with mine.held():
            _, revision = await keys.get(NAME)
            await keys.put(NAME, claim("other"), revision)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await upload_that_another_takes_for_dead()
    found, _ = await keys.get(NAME)
    assert found is not None
    assert found.holder == "other"


async def test_a_key_that_was_freed_can_be_taken(js: JetStreamContext) -> None:
    keys = await IdempotencyKeys.open(js)
    with pytest.raises(ZeroDivisionError):
        async with HeldKey(keys, NAME, claim("first"), 0).held():
            raise ZeroDivisionError
    found, revision = await keys.get(NAME)
    assert found is None
    async with HeldKey(keys, NAME, claim("second"), revision).held():
        found, _ = await keys.get(NAME)
        assert found is not None
        assert found.holder == "second"


async def test_a_write_whose_answer_was_lost_is_no_other_upload(js: JetStreamContext) -> None:
    keys = await IdempotencyKeys.open(js)
    mine = claim("mine")
    key = HeldKey(keys, NAME, mine, 0)
    await keys.put(NAME, mine, 0)  # stored, and the answer did not come
    await key.store()
    await key.store(fingerprint="f")
    found, _ = await keys.get(NAME)
    assert found is not None
    assert found.fingerprint == "f"


async def test_a_key_that_another_upload_has_by_now_is_told(js: JetStreamContext) -> None:
    keys = await IdempotencyKeys.open(js)
    key = HeldKey(keys, NAME, claim("mine"), 0)
    await keys.put(NAME, claim("other"), 0)
    with pytest.raises(RequestError) as caught:
        await key.store()
    assert caught.value.code == "upload_running"


async def test_the_age_of_a_claim_is_told_by_the_server(js: JetStreamContext) -> None:
    keys = await IdempotencyKeys.open(js)
    revision = await keys.put(NAME, claim("mine"), 0)
    assert timedelta() <= await keys.age(revision) < timedelta(seconds=30)
    await keys.put(NAME, claim("mine"), revision)
    assert await keys.age(revision) == timedelta(), "it was written over: nobody is dead"


async def test_a_claim_that_cannot_be_used_is_none_and_is_written_over(js: JetStreamContext) -> None:
    keys = await IdempotencyKeys.open(js)
    await js.publish(f"$KV.{IDEMPOTENCY_BUCKET}.{NAME}", b"\xff not a claim")
    found, revision = await keys.get(NAME)
    assert found is None
    with pytest.raises(Conflict):
        await keys.put(NAME, claim("mine"), 0)
    await keys.put(NAME, claim("mine"), revision)


async def test_an_outage_at_the_time_of_a_renewal_costs_nothing(
    js: JetStreamContext, nats_process: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schemas.idempotency.RENEW_SECS", 0.05)
    js._timeout = 0.2
    keys = await IdempotencyKeys.open(js)
    key = HeldKey(keys, NAME, claim("mine"), 0)
    async with key.held():
        _, before = await keys.get(NAME)
        nats_process.freeze()
        try:
            while psutil.Process(nats_process.pid).status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(0.001)
            with pytest.raises(Unavailable):
                await keys.put(NAME, claim("nobody"), 10**9)
        finally:
            nats_process.thaw()
        revision = before
        while revision <= before + 1:  # renewed again, after the outage
            _, revision = await keys.get(NAME)
    await key.store(fingerprint="f")
    found, _ = await keys.get(NAME)
    assert found is not None
    assert (found.holder, found.fingerprint) == ("mine", "f")
