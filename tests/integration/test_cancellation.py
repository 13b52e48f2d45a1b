"""A cancellation is never lost in nats-py, whether its call succeeds or fails (broker/connection.py)."""

import asyncio

import nats.errors
import pytest
from nats.js import JetStreamContext
from nats.js.errors import APIError

from broker.connection import mapped_errors
from broker.pulling import Puller
from schemas.subjects import GPU_WORKER_CONSUMER, JOBS_STREAM


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


async def test_a_pull_that_times_out_as_it_is_cancelled_ends(
    js: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nats-py makes of a cancellation that comes together with a status message of the server."""
    waiting = asyncio.Event()

    async def fetch(*_: object, **__: object) -> None:
        waiting.set()
        await swallow(nats.errors.TimeoutError())

    monkeypatch.setattr(JetStreamContext.PullSubscription, "fetch", fetch)
    task = asyncio.create_task(Puller(js, JOBS_STREAM, GPU_WORKER_CONSUMER).next())
    await waiting.wait()
    task.cancel()
    await asyncio.wait([task], timeout=5)
    ended = task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
