"""A client that does not read costs the others nothing."""

import asyncio

import pytest

from broker.event_log import Logged
from gateway.streaming.fanout import Listener, StreamOver


def event(seq: int) -> Logged:
    return Logged(seq=seq, subject="whisper.events.job.j.progress", body=b"{}")


async def test_events_come_in_order_and_pauses_are_none() -> None:
    listener = Listener(buffer=3)
    for seq in (1, 2, 3):
        listener.offer(event(seq))
    assert [(await listener.next(1)) for _ in range(3)] == [event(1), event(2), event(3)]
    assert await listener.next(0.01) is None


async def test_a_full_buffer_drops_the_client_and_nobody_waits() -> None:
    listener = Listener(buffer=2)
    for seq in range(1000):
        listener.offer(event(seq))
    with pytest.raises(StreamOver):
        await listener.next(1)


async def test_waiting_is_cancelled() -> None:
    listener = Listener(buffer=2)
    waiting = asyncio.create_task(listener.next(60))
    await asyncio.sleep(0)
    listener.offer(event(1))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
