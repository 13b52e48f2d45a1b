"""A cancellation is never lost in nats-py, whether its call succeeds or fails (broker/connection.py)."""

import asyncio
from contextlib import suppress

import nats.errors
import pytest
from nats.js import JetStreamContext
from nats.js.errors import APIError

from broker.error_mapping import mapped_errors
from broker.settings import BrokerSettings
from broker.work_queue import Delivery, WorkQueue
from process.racing import unless
from schemas.jobs import JobRequest


async def swallow(then: Exception | None) -> None:
    """As nats-py's publish does it: a cancellation that comes while it flushes is caught."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        if then is not None:
            raise then from None


@pytest.mark.parametrize("then", [None, nats.errors.TimeoutError(), APIError(err_code=10071), OSError()])
async def test_it_goes_on(then: Exception | None) -> None:
    async def work() -> None:
        with mapped_errors():
            await swallow(then)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_cleans_up_after_a_cancellation_is_let_through() -> None:
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            await asyncio.sleep(60)
        finally:
            with mapped_errors():
                await asyncio.sleep(0)
            cleaned = True

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned


@pytest.mark.parametrize("turns", range(1, 5))
async def test_what_is_pulled_as_the_caller_is_cancelled_is_not_lost(turns: int) -> None:
    """In whichever turn of the loop the one meets the other."""
    arrives, late = asyncio.get_running_loop().create_future(), list[str | None]()

    async def pull() -> str:
        return str(await arrives)

    task = asyncio.create_task(unless(pull(), asyncio.sleep(60), late.append))
    await asyncio.sleep(0.01)
    arrives.set_result("a job")
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        late.append(str(await task))
    assert late == ["a job"]


async def test_what_is_on_its_way_when_a_pull_is_closed_can_be_given_back(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    queue = WorkQueue(js, broker_settings)
    for number in range(20):
        pulling = asyncio.create_task(queue.pull())
        await asyncio.sleep(0.005)
        await queue.submit(f"j{number}", JobRequest())
        pulling.cancel()
        found = await asyncio.gather(pulling, return_exceptions=True)
        pulled = [f for f in found if isinstance(f, Delivery)] + await queue.leave()
        for delivery in pulled:
            await delivery.put_back()
        async with asyncio.timeout(1):  # half of the ack wait
            again = await queue.pull()
        assert again.job_id == f"j{number}"
        await again.ack()
