"""When a worker takes jobs: after the first probe, and after each trouble as soon as a probe succeeds."""

import asyncio
import errno

import pytest

from gpu_worker import machine as module
from gpu_worker.machine import REMEMBERED, Machine


class Probe:
    """Fails as it is told, and counts."""

    def __init__(self, *failures: Exception | None) -> None:
        self._failures, self.count = list(failures), 0

    async def __call__(self) -> None:
        self.count += 1
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """By how many failures each pause was asked for; none takes any time."""
    asked = list[int]()

    def pause(failures: int) -> float:
        asked.append(failures)
        return 0.0

    monkeypatch.setattr(module, "pause_secs", pause)
    return asked


async def test_trouble_is_told_until_a_probe_succeeds_and_pauses_grow(pauses: list[int]) -> None:
    told = list[str | None]()
    machine = Machine(Probe(FULL, FULL, None), lambda: told.append(machine.trouble))
    running = asyncio.create_task(machine.run())
    assert not machine.gate.is_open
    async with asyncio.timeout(5):
        await machine.gate.wait_open()
    assert (told, pauses) == (["No space left on device"] * 2 + [None], [1, 2])
    for number in range(3):
        machine.report("again")
        machine.report("by the second job in hand")
        assert machine.trouble == "by the second job in hand"
        async with asyncio.timeout(5):
            await machine.gate.wait_open()
        assert pauses[-1] == 3 + number
    machine.proved()
    machine.report("much later")
    async with asyncio.timeout(5):
        await machine.gate.wait_open()
    assert pauses[-1] == 1
    running.cancel()
    await asyncio.wait([running])


async def test_what_is_no_trouble_of_the_machine_ends_the_worker() -> None:
    with pytest.raises(KeyError):
        await Machine(Probe(KeyError("a bug")), lambda: None).run()


def test_a_job_is_passed_on_once_each_time_that_it_is_given_back() -> None:
    """Two workers that both fail it would hand it to each other without end."""
    machine = Machine(Probe(), lambda: None)
    for _ in range(2):
        machine.gave_back(7)
        assert [machine.passes_on(7), machine.passes_on(7), machine.passes_on(8)] == [True, False, False]
    for submission in range(2 * REMEMBERED):
        machine.gave_back(submission)
    assert [machine.passes_on(0), machine.passes_on(2 * REMEMBERED - 1)] == [False, True]
