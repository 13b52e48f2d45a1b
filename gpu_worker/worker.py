"""The worker: two loops that meet at a queue of one, so that the next job is decoded while this one is transcribed.

    pull -> prepare (network, ffmpeg, VAD: CPU) -> [queue] -> run (engine: GPU) -> end

Everything runs in one TaskGroup; whichever part fails ends the worker, and its supervisor starts it again.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from broker import topology
from broker.audio_use import AudioUse
from broker.connection import connect, goodbye
from broker.dead_letters import DeadLetters
from broker.errors import BrokerError, Unavailable
from broker.event_log import EventLog
from broker.job_records import JobRecords
from broker.object_store import ObjectStore
from broker.pulling import unless
from broker.work_queue import Delivery, WorkQueue
from broker.worker_status import WorkerStatuses
from gpu_worker.gpu import Gpu
from gpu_worker.job import Ending, JobInHand
from gpu_worker.model import Model
from gpu_worker.preparing import Spool
from gpu_worker.service import serve_model
from gpu_worker.services import Services
from gpu_worker.settings import WorkerSettings
from gpu_worker.speed import after_job
from schemas import subjects
from schemas.jobs import JobStatus
from schemas.model import ModelEvent, ModelStatus, Speed, WorkerStatus, event_name

log = logging.getLogger(__name__)

CANCELLED_EVENTS = subjects.event("*", JobStatus.CANCELLED)
IN_HAND = 2
"""One on the engine and one prepared."""
STATUS_SECS = topology.WORKER_TTL_SECS / 4
BROKER_RETRY_SECS = 1.0
MAX_NEWS = 100
"""Changes of the model's state that may wait for the broker."""


class Worker:
    def __init__(self, settings: WorkerSettings, gpu: Gpu) -> None:
        self._settings = settings
        self._model = Model(settings, gpu, self._model_changed)
        self._news: asyncio.Queue[ModelEvent] = asyncio.Queue(MAX_NEWS)
        self._statuses: WorkerStatuses | None = None
        self._in_hand: dict[str, JobInHand] = {}
        self._running: JobInHand | None = None
        self._speed: Speed | None = None
        self._status_due = asyncio.Event()
        self._slots = asyncio.Semaphore(IN_HAND)
        self._ready: asyncio.Queue[JobInHand] = asyncio.Queue(IN_HAND)

    async def run(self) -> None:
        """Work until cancelled; then give back the jobs in hand and end the engine."""
        name = f"gpu-worker {self._settings.name()}"
        async with connect(self._settings, name) as (client, js):
            settings = self._settings = await topology.ensure(js, self._settings)
            self._statuses = await WorkerStatuses.open(js)
            store, records = ObjectStore(js, subjects.AUDIO_BUCKET), await JobRecords.open(js)
            services = Services(
                settings,
                self._model,
                store,
                AudioUse(js, records, store),
                records,
                EventLog(js),
                DeadLetters(js),
                Spool(settings.spool()),
                self._measured,
            )
            try:
                async with (
                    serve_model(client, self._model, settings.name()),
                    self._listening(client, CANCELLED_EVENTS, self._on_cancelled),
                    self._listening(client, subjects.ALL_SUBMITS, self._on_submit),
                ):
                    await self._work(services, js)
            finally:
                await self._model.close()
                await self._give_back()
                async with goodbye("sign off"):  # else the status expires by itself
                    await self._statuses.forget(settings.name())

    async def _work(self, services: Services, js: JetStreamContext) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._model.run(), name="model")
            tasks.create_task(self._tell_news(services.events), name="news")
            tasks.create_task(self._prepare_jobs(services, WorkQueue(js, self._settings)), name="prepare")
            tasks.create_task(self._run_jobs(tasks), name="run")
            tasks.create_task(self._beat(), name="status")

    async def _prepare_jobs(self, services: Services, queue: WorkQueue) -> None:
        while True:
            await self._slots.acquire()
            job = JobInHand(await self._next(queue), services)
            await job.open()
            self._in_hand[job.job_id] = job
            self._model.job_arrived(job.job_id, job.stop)
            try:
                wanted = await job.prepare()
            except BrokerError as error:
                log.warning("job %s could not be fetched, it will be delivered again: %s", job.job_id, error)
                wanted = False
            if wanted:
                await self._ready.put(job)
            else:
                await self._let_go(job)

    async def _next(self, queue: WorkQueue) -> Delivery:
        """The next job, when jobs are welcome."""
        while True:
            await self._model.gate.wait_open()
            delivery = await unless(self._patiently(queue), self._model.gate.wait_closed())
            if delivery is not None and self._model.gate.is_open:
                return delivery
            await self._turn_away(queue, delivery)

    async def _turn_away(self, queue: WorkQueue, delivery: Delivery | None) -> None:
        """The GPU has just been wanted back: what comes now is for others, or for later."""
        try:
            await queue.leave()
            if delivery is not None:
                await delivery.put_back()
        except BrokerError as error:
            log.warning("a job could not be turned away, its deadline will do it: %s", error)

    async def _patiently(self, queue: WorkQueue) -> Delivery:
        """Pull, whatever it takes: a server that is gone comes back."""
        while True:
            try:
                return await queue.pull()
            except Unavailable as error:
                log.warning("no jobs can be pulled: %s", error)
                await asyncio.sleep(BROKER_RETRY_SECS)

    async def _run_jobs(self, tasks: asyncio.TaskGroup) -> None:
        """One job after the other on the engine. What ends a job is done while the next one has it."""
        while True:
            self._running = job = await self._ready.get()
            self._status_due.set()
            try:
                ending = await job.work()
            except BrokerError as error:
                log.warning("job %s is interrupted, it will be delivered again: %s", job.job_id, error)
                ending = None
            except Exception:  # a poison job must not take the worker down; its attempts are counted
                log.exception("job %s failed unexpectedly", job.job_id)
                ending = job.put_back
            self._running = None
            self._model.job_left(job.job_id)
            self._slots.release()
            self._status_due.set()
            tasks.create_task(self._end(job, ending), name=f"end {job.job_id}")

    async def _end(self, job: JobInHand, ending: Ending | None) -> None:
        try:
            if ending is not None:
                await ending()
        except BrokerError as error:
            log.warning("job %s could not be ended, it will be delivered again: %s", job.job_id, error)
        except Exception:  # nor may this take the worker down
            log.exception("job %s could not be ended, it will be delivered again", job.job_id)
        await self._close(job)

    async def _let_go(self, job: JobInHand) -> None:
        """Of a job that never got to the engine."""
        self._model.job_left(job.job_id)
        self._slots.release()
        await self._close(job)

    async def _close(self, job: JobInHand) -> None:
        await job.close()
        self._in_hand.pop(job.job_id, None)

    async def _give_back(self) -> None:
        """On the way out: the queue gets its jobs back now, not after the ack deadline."""
        async with asyncio.TaskGroup() as tasks:
            for job in list(self._in_hand.values()):
                tasks.create_task(self._release(job), name=f"give back {job.job_id}")

    async def _release(self, job: JobInHand) -> None:
        async with goodbye(f"give back job {job.job_id}"):  # else its deadline does it
            await job.release()
        self._model.job_left(job.job_id)
        await self._close(job)

    @asynccontextmanager
    async def _listening(
        self, client: Client, subject: str, heard: Callable[[Msg], Awaitable[None]]
    ) -> AsyncIterator[None]:
        sub = await client.subscribe(subject, cb=heard)
        try:
            yield
        finally:
            await sub.unsubscribe()

    async def _on_cancelled(self, message: Msg) -> None:
        """The job has ended already; this is about the engine. Who misses it meets the fence."""
        self._model.stop_job(subjects.job_of(message.subject))

    async def _on_submit(self, message: Msg) -> None:
        """A new job is somebody who wants the model, also after an unload that was forced."""
        self._model.gate.open()

    def _measured(self, audio_secs: float, secs: float) -> None:
        self._speed = after_job(self._speed, audio_secs, secs)

    def _model_changed(self, status: ModelStatus) -> None:
        if self._news.full():  # the broker has been away for long; the latest states count
            log.warning("an event is dropped: %s", self._news.get_nowait().type)
        self._news.put_nowait(
            ModelEvent(
                type=event_name(status.state),
                worker_id=self._settings.name(),
                at=datetime.now(UTC),
                model=status,
            )
        )

    async def _tell_news(self, events: EventLog) -> None:
        """Tell each change of the model's state, in order: first where gateways look it up, then as an event."""
        self._model_changed(await self._model.status())  # whoever followed a worker that was killed must know
        while True:
            event, event_id = await self._news.get(), uuid.uuid4().hex
            await self._tell_status()
            while True:  # endless: a server that is gone comes back
                try:
                    await events.append_model_event(event, event_id)
                    break
                except BrokerError as error:
                    log.warning("%s could not be told: %s", event.type, error)
                    await asyncio.sleep(BROKER_RETRY_SECS)

    async def _beat(self) -> None:
        """Tell the status now and then, and whenever something has changed."""
        while True:
            self._status_due.clear()
            await self._tell_status()
            with suppress(TimeoutError):
                async with asyncio.timeout(STATUS_SECS):
                    await self._status_due.wait()

    async def _tell_status(self) -> None:
        if self._statuses is None:
            return
        status = WorkerStatus(
            worker_id=self._settings.name(),
            at=datetime.now(UTC),
            model=await self._model.status(),
            job_id=self._running.job_id if self._running else None,
            speed=self._speed,
            gpu=self._model.gpu,
        )
        try:
            await self._statuses.tell(status)
        except BrokerError as error:
            log.warning("the worker's status could not be told: %s", error)
