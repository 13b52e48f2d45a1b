"""What a worker publishes of itself: its status in key-value, and an event for each change of its model's state."""

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
from broker.topology import declarations
from broker.worker_status import WorkerStatuses
from gpu_worker.machine import Machine
from gpu_worker.model.model import Model
from gpu_worker.speed import after_job
from schemas.model import ModelEvent, ModelStatus, Speed, WorkerStatus, event_name

log = logging.getLogger(__name__)

STATUS_SECS = declarations.WORKER_TTL_SECS / 4
"""How often the status is written: three writes may be lost before its key expires."""
MAX_NEWS = 100
"""How many changes of the model's state may wait for nats-server."""


class Announcer:
    """Publishes the status and the model's changes of one worker."""

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._news: asyncio.Queue[ModelEvent] = asyncio.Queue(MAX_NEWS)
        self._due = asyncio.Event()
        self._speed: Speed | None = None
        self.job_id: str | None = None
        """Id of the job on the engine."""

    def status_changed(self) -> None:
        """Write the status now."""
        self._due.set()

    def measured(self, audio_secs: float, secs: float) -> None:
        """A job with so many seconds of audio took so many seconds on the engine."""
        self._speed = after_job(self._speed, audio_secs, secs)

    def model_changed(self, status: ModelStatus) -> None:
        """Publish this state of the model, behind the earlier ones."""
        # nats-server has been away for long then, and the latest states matter most.
        if self._news.full():
            log.warning("an event is dropped: %s", self._news.get_nowait().type)
        self._news.put_nowait(
            ModelEvent(
                type=event_name(status.state), worker_id=self._worker_id, at=datetime.now(UTC), model=status
            )
        )

    async def run(self, statuses: WorkerStatuses, events: EventLog, model: Model, machine: Machine) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish_news(statuses, events, model, machine), name="news")
            tasks.create_task(self._beat(statuses, model, machine), name="status")

    async def sign_off(self, statuses: WorkerStatuses) -> None:
        """Remove the status, so that gateways need not wait until it expires."""
        async with goodbye("sign off"):
            await statuses.forget(self._worker_id)

    async def _publish_news(
        self, statuses: WorkerStatuses, events: EventLog, model: Model, machine: Machine
    ) -> None:
        """Publish each change of the model's state in order: first in the status, then as an event."""
        # The first state is an event as well, because clients may have followed an earlier worker that was killed.
        self.model_changed(await model.status())
        while True:
            event, event_id = await self._news.get(), uuid.uuid4().hex
            await self._write_status(statuses, model, machine)
            try:
                publish = partial(events.append_model_event, event, event_id)
                await patiently(f"publishing {event.type}", publish)
            except BrokerError as error:
                # It will never be accepted. The status says the same.
                log.error("%s could not be told: %s", event.type, error)

    async def _beat(self, statuses: WorkerStatuses, model: Model, machine: Machine) -> None:
        """Write the status every STATUS_SECS, and whenever it has changed."""
        while True:
            self._due.clear()
            await self._write_status(statuses, model, machine)
            with suppress(TimeoutError):
                async with asyncio.timeout(STATUS_SECS):
                    await self._due.wait()

    async def _write_status(self, statuses: WorkerStatuses, model: Model, machine: Machine) -> None:
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
