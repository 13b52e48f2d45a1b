"""A slow preparation holds nobody up, and no place is lost or doubled whatever happens."""

import asyncio

import pytest

from gpu_worker import places as module
from gpu_worker.places import IN_HAND, SLOW_JOBS, Places


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOW_SECS", 0.01)


async def free_places(places: Places) -> int:
    """Count them by taking them all."""
    taken = 0
    try:
        while True:
            async with asyncio.timeout(0.01):
                await places.take()
            taken += 1
    except TimeoutError:
        for _ in range(taken):
            places.free()
    return taken


class Preparing:
    """A job whose preparation ends when it is told to."""

    def __init__(self, places: Places, key: str) -> None:
        self.done = asyncio.Event()
        self._places, self.key = places, key
        self.task = asyncio.create_task(self._prepare())

    async def _prepare(self) -> None:
        await self.done.wait()
        await self._places.back(self.key)


async def test_a_quick_job_keeps_its_place() -> None:
    places = Places()
    await places.take()
    quick = Preparing(places, "quick")
    quick.done.set()
    await places.until_done_or_aside("quick", quick.task)
    assert await free_places(places) == IN_HAND - 1


async def test_a_slow_job_steps_aside_and_takes_a_place_again_when_it_is_ready() -> None:
    places = Places()
    await places.take()
    slow = Preparing(places, "slow")
    await places.until_done_or_aside("slow", slow.task)
    assert await free_places(places) == IN_HAND
    slow.done.set()
    await slow.task
    assert await free_places(places) == IN_HAND - 1


async def test_only_so_many_are_aside() -> None:
    places, slow = Places(), list[Preparing]()
    for number in range(SLOW_JOBS):
        await places.take()
        slow.append(Preparing(places, str(number)))
        await places.until_done_or_aside(str(number), slow[-1].task)
    await places.take()
    last = Preparing(places, "last")
    waiting = asyncio.create_task(places.until_done_or_aside("last", last.task))
    assert await free_places(places) == IN_HAND - 1
    last.done.set()
    await waiting
    # It was ready before there was room aside, so that it has kept its place.
    assert await free_places(places) == IN_HAND - 1
    for job in slow[: IN_HAND - 1]:
        job.done.set()
        await job.task
    assert await free_places(places) == 0


async def test_a_wait_for_room_aside_that_is_cancelled_takes_none() -> None:
    places = Places()
    for number in range(SLOW_JOBS):
        await places.take()
        await places.until_done_or_aside(str(number), Preparing(places, str(number)).task)
    await places.take()
    last = Preparing(places, "last")
    waiting = asyncio.create_task(places.until_done_or_aside("last", last.task))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await free_places(places) == IN_HAND - 1
