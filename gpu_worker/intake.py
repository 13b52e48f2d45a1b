"""Which job comes into the worker's hands next, and when none may come.

An idle worker keeps a pull open and gets the next job at once. A worker that has a job wants a second one only to have it
prepared in time: it takes a job that no idle worker is waiting for, and gives it back when one is.
"""

import asyncio
import logging
from collections.abc import Callable

from broker.errors import BrokerError
from broker.patience import patiently
from broker.work_queue import Delivery, WorkQueue
from gpu_worker.gate import Gate
from process.racing import unless

log = logging.getLogger(__name__)

LOOK_SECS = 1.0
"""How often a busy worker looks at the queue. It also looks each time that it hears of a new job."""


class Intake:
    """Pulls deliveries while jobs are welcome."""

    def __init__(
        self,
        queue: WorkQueue,
        gates: tuple[Gate, Gate],
        is_busy: Callable[[], bool],
        is_for_others: Callable[[int], bool],
    ) -> None:
        """Jobs are welcome while both `gates` are open. `is_busy` tells whether a job is in hand already.

        `is_for_others` is asked with the stream sequence of each submission: it is true, once, for one that was given back here
        because of this machine.
        """
        self._queue, self._gates, self._is_busy = queue, gates, is_busy
        self._is_for_others = is_for_others
        self._late: list[Delivery] = []
        """Deliveries that arrived when jobs were not welcome any more."""
        self._news = asyncio.Event()

    def look_again(self) -> None:
        """Look at the queue now: there is a new job, or one less in hand."""
        self._news.set()

    async def next(self) -> Delivery:
        """Wait for the next job, and until jobs are welcome. Endless."""
        while True:
            await self._welcome()
            if (is_spare := self._is_busy()) and not await self._has_spare():
                await self._wait_for_news()
                continue
            pulling = patiently("pulling", self._queue.pull)
            ending = self._too_late() if is_spare else self._unwelcome()
            delivery = await unless(pulling, ending, self._late.append)
            if delivery is not None:
                # Kept here while we wait below, so that it is settled also where we are cancelled.
                self._late.append(delivery)
                if self._is_welcome and not await self._is_better_off(delivery):
                    self._late.remove(delivery)
                    return delivery
            try:
                await self.turn_away()
            except BrokerError as error:
                log.warning("a job could not be turned away, its deadline will do it: %s", error)

    async def turn_away(self) -> None:
        """Close the pull, and put back the deliveries that arrived meanwhile. Raises BrokerError."""
        late, self._late = self._late, []
        for delivery in late + await self._queue.leave():
            await delivery.put_back()

    async def is_wanted_by_others(self) -> bool:
        """Whether an idle worker waits while the queue has no job for it. False where nats-server cannot be asked."""
        try:
            look = await self._queue.look()
        except BrokerError as error:
            log.debug("the queue cannot be looked at: %s", error)
            return False
        return look.idle_workers > 0 and look.waiting_jobs == 0

    async def _is_better_off(self, delivery: Delivery) -> bool:
        """Whether this delivery should go to another worker, which is idle: the job was given back here before."""
        if not self._is_for_others(delivery.seq):
            return False
        look = await patiently("looking at the queue", self._queue.look)
        return look.idle_workers > 0

    async def _has_spare(self) -> bool:
        look = await patiently("looking at the queue", self._queue.look)
        return look.waiting_jobs > 0 and look.idle_workers == 0

    @property
    def _is_welcome(self) -> bool:
        return all(gate.is_open for gate in self._gates)

    async def _welcome(self) -> None:
        while not self._is_welcome:
            for gate in self._gates:
                await gate.wait_open()

    async def _unwelcome(self) -> None:
        one, other = self._gates
        await unless(one.wait_closed(), other.wait_closed())

    async def _too_late(self) -> None:
        """Wait until a pull for a second job is pointless: jobs are unwelcome, or another worker has had the time to take it."""
        await unless(self._unwelcome(), asyncio.sleep(LOOK_SECS))

    async def _wait_for_news(self) -> None:
        await unless(self._news.wait(), asyncio.sleep(LOOK_SECS))
        self._news.clear()
