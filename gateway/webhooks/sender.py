"""Sends deliveries: finds out which URLs have some waiting, and gives each its turns.

A delivery is a message in JetStream until it is settled, so that a crash or a restart loses none.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.errors import BrokerError, Refused
from broker.webhook_queues import Waiting
from gateway.webhooks.agenda import Agenda
from gateway.webhooks.lanes import SLOW_SECS
from gateway.webhooks.planner import DeliveryPlanner
from gateway.webhooks.turn import Means, TurnEnd, take_turn
from process.background import run_in_background
from schemas import inputs
from schemas.subjects import is_job_id
from schemas.urls import host_and_port

log = logging.getLogger(__name__)

LOOK_SECS = 2.0
"""How often the stream is asked whether it has grown: a hint may be lost, or its gateway dead."""
FULL_LOOK_SECS = 10.0
"""How often all waiting deliveries are looked at."""
BROKER_RETRY_SECS = 1.0
NET_RETRY_SECS = 60.0
"""Pause of a URL after an unexpected error."""
STRANGERS_AT_ONCE = 4
"""How many first deliveries are read at a time."""


class Sender:
    """The webhook task of one gateway."""

    def __init__(self, planner: DeliveryPlanner, means: Means) -> None:
        self._planner, self._means = planner, means
        self._agenda = Agenda()
        self._changed, self._strangers = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Plan and deliver while the block runs. At its end, unfinished work is offered to the other gateways."""
        async with self._means.poster.open(), run_in_background(self._run(), name="webhooks"):
            yield

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks, self._means.queues.hints(self._hinted):
            tasks.create_task(self._planner.run(), name="plan deliveries")
            tasks.create_task(self._look(), name="look for deliveries")
            for _ in range(STRANGERS_AT_ONCE):
                tasks.create_task(self._find_hosts(), name="look at first deliveries")
            while True:
                self._changed.clear()
                now = self._now()
                while (webhook_id := self._agenda.start(now)) is not None:
                    tasks.create_task(self._turn(webhook_id), name=f"webhook {webhook_id}")
                await self._until(self._agenda.next_time(now))

    async def _until(self, at: float | None) -> None:
        """Wait until that time, or until something has changed."""
        try:
            async with asyncio.timeout_at(at):
                await self._changed.wait()
        except TimeoutError:
            return

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _turn(self, webhook_id: str) -> None:
        slow = asyncio.get_running_loop().call_later(SLOW_SECS, self._overrun, webhook_id)
        try:
            end = await take_turn(self._means, webhook_id)
        except BrokerError as error:
            log.warning("webhook %s: its deliveries wait: %s", webhook_id, error)
            end = TurnEnd(again_secs=NET_RETRY_SECS if isinstance(error, Refused) else BROKER_RETRY_SECS)
        except Exception:
            log.exception("webhook %s: its deliveries wait", webhook_id)
            end = TurnEnd(again_secs=NET_RETRY_SECS)
        finally:
            slow.cancel()
        if end.well is not None:
            self._agenda.reputation.went(webhook_id, well=end.well)
        again_at = None if end.again_secs is None else self._now() + end.again_secs
        self._agenda.ended(webhook_id, again_at, is_due_then=end.is_due_then)
        self._wake()

    def _overrun(self, webhook_id: str) -> None:
        self._agenda.overrun(webhook_id)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._strangers.set()

    async def _hinted(self, webhook_id: str) -> None:
        self._agenda.found(webhook_id, is_new=True)
        self._wake()

    async def _look(self) -> None:
        """Look at the stream now and then. Hints announce what is stored while this gateway runs; this finds everything else."""
        seen, full_at = -1, 0.0
        while True:
            try:
                last = await self._means.queues.last_sequence()
                if last != seen or self._now() >= full_at:
                    for webhook_id in await self._means.queues.waiting():
                        self._agenda.found(webhook_id, is_new=False)
                    seen, full_at = last, self._now() + FULL_LOOK_SECS
                    self._wake()
            except BrokerError as error:
                log.warning("it cannot be seen which webhooks wait: %s", error)
            await asyncio.sleep(LOOK_SECS)

    async def _find_hosts(self) -> None:
        """Read the first delivery of URLs that nothing is known of, because their lane depends on the host in it."""
        while True:
            webhook_id = self._agenda.stranger()
            if webhook_id is None:
                self._strangers.clear()
                await self._strangers.wait()
                continue
            try:
                first = await self._means.queues.first(webhook_id)
            except BrokerError as error:
                log.warning("webhook %s: its deliveries wait: %s", webhook_id, error)
                await asyncio.sleep(BROKER_RETRY_SECS)
                self._agenda.found(webhook_id, is_new=False)
                continue
            if first is not None or not is_job_id(
                webhook_id
            ):  # what is on a subject of no URL is cleared in its turn
                self._agenda.is_at(webhook_id, "" if first is None else _host(first))
                self._changed.set()


def _host(first: Waiting) -> str:
    """Return host and port of a delivery; empty where it cannot be read, which its turn then reports."""
    try:
        return host_and_port(inputs.DELIVERY.read(first.body).webhook.url)
    except inputs.Unreadable:
        return ""
