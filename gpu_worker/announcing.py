"""What a worker tells of itself: its status, where gateways look it up, and each change of its model's state."""

import asyncio
import logging
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from broker.connection import goodbye
from broker.errors import BrokerError
from broker.event_log import EventLog
from broker.patience import patiently
from broker.topology import declared as topology
from broker.worker_status import WorkerStatuses
from gpu_worker.machine import Machine
from gpu_worker.model.model import Model
from gpu_worker.speed import after_job
from schemas.model import ModelEvent, ModelStatus, Speed, WorkerStatus, event_name

log = logging.getLogger(__name__)

STATUS_SECS = topology.WORKER_TTL_SECS / 4
MAX_NEWS = 100
"""Changes of the model's state that may wait for the broker."""


class Announcer:
    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._news: asyncio.Queue[ModelEvent] = asyncio.Queue(MAX_NEWS)
        self._due = asyncio.Event()
        self._speed: Speed | None = None
        self.job_id: str | None = None
        """The job on the engine."""

    def status_changed(self) -> None:
        self._due.set()

    def measured(self, audio_secs: float, secs: float) -> None:
        """A job of so much audio took so long on the engine."""
        self._speed = after_job(self._speed, audio_secs, secs)

    def model_changed(self, status: ModelStatus) -> None:
        if self._news.full():  # the broker has been away for long; the latest states count
            log.warning("an event is dropped: %s", self._news.get_nowait().type)
        self._news.put_nowait(
            ModelEvent(
                type=event_name(status.state), worker_id=self._worker_id, at=datetime.now(UTC), model=status
            )
        )

    async def run(self, statuses: WorkerStatuses, events: EventLog, model: Model, machine: Machine) -> None:
        """Tell, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_news(statuses, events, model, machine), name="news")
            tasks.create_task(self._beat(statuses, model, machine), name="status")

    async def sign_off(self, statuses: WorkerStatuses) -> None:
        """Else the status expires by itself."""
        async with goodbye("sign off"):
            await statuses.forget(self._worker_id)

    async def _tell_news(
        self, statuses: WorkerStatuses, events: EventLog, model: Model, machine: Machine
    ) -> None:
        """Each change of the model's state, in order: first where gateways look it up, then as an event."""
        self.model_changed(await model.status())  # whoever followed a worker that was killed must know
        while True:
            event, event_id = await self._news.get(), uuid.uuid4().hex
            await self._tell_status(statuses, model, machine)
            try:
                tell = partial(events.append_model_event, event, event_id)
                await patiently(f"telling {event.type}", tell)
            except BrokerError as error:  # it can never be told; the status says as much
                log.error("%s could not be told: %s", event.type, error)

    async def _beat(self, statuses: WorkerStatuses, model: Model, machine: Machine) -> None:
        """The status now and then, and whenever something has changed."""
        while True:
            self._due.clear()
            await self._tell_status(statuses, model, machine)
            with suppress(TimeoutError):
                async with asyncio.timeout(STATUS_SECS):
                    await self._due.wait()

    async def _tell_status(self, statuses: WorkerStatuses, model: Model, machine: Machine) -> None:
        status = WorkerStatus(
            worker_id=self._worker_id,
            at=datetime.now(UTC),
            model=await model.status(),
            job_id=self.job_id,
            speed=self._speed,
            gpu=model.gpu,
            trouble=machine.trouble,
        )
        try:
            await statuses.tell(status)
        except BrokerError as error:
            log.warning("the worker's status could not be told: %s", error)
