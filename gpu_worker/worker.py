"""The worker: two loops that meet at a queue of one, so that the next job is decoded while this one is transcribed.

    pull -> prepare (network, ffmpeg, VAD: CPU) -> [queue] -> run (engine: GPU) -> end

Everything runs in one TaskGroup; whichever part fails ends the worker, and its supervisor starts it again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from broker import topology
from broker.audio_store import AudioStore
from broker.connection import connect
from broker.errors import BrokerError, Unavailable
from broker.event_log import EventLog
from broker.job_records import JobRecords
from broker.work_queue import Delivery, WorkQueue
from broker.worker_status import WorkerStatuses
from gpu_worker.gpu import Gpu
from gpu_worker.job import JobInHand, Services
from gpu_worker.model import Model
from gpu_worker.preparing import Spool
from gpu_worker.service import serve_model
from gpu_worker.settings import WorkerSettings
from schemas import subjects
from schemas.model import WorkerStatus

log = logging.getLogger(__name__)

IN_HAND = 2
"""One on the engine and one prepared."""
STATUS_SECS = topology.WORKER_TTL_SECS / 4
BROKER_RETRY_SECS = 1.0


class Worker:
    def __init__(self, settings: WorkerSettings, gpu: Gpu) -> None:
        self._settings, self._gpu = settings, gpu
        self._model = Model(settings, self._tell_status)
        self._statuses: WorkerStatuses | None = None
        self._in_hand: dict[str, JobInHand] = {}
        self._running: JobInHand | None = None
        self._slots = asyncio.Semaphore(IN_HAND)
        self._ready: asyncio.Queue[JobInHand] = asyncio.Queue(IN_HAND)

    async def run(self) -> None:
        """Work until cancelled; then give back the jobs in hand and end the engine."""
        settings = self._settings
        async with connect(settings, f"gpu-worker {settings.name()}") as (client, js):
            await topology.ensure(js, settings)
            self._statuses = await WorkerStatuses.open(js)
            services = Services(
                settings,
                self._model,
                AudioStore(js),
                await JobRecords.open(js),
                EventLog(client, js),
                Spool(settings.spool()),
            )
            try:
                async with serve_model(client, self._model), self._listening_for_cancels(client):
                    await self._work(services, js)
            finally:
                await self._model.close()
                await self._give_back()
                await self._sign_off(self._statuses)

    async def _work(self, services: Services, js: JetStreamContext) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._prepare_jobs(services, WorkQueue(js, self._settings)), name="prepare")
            tasks.create_task(self._run_jobs(), name="run")
            tasks.create_task(self._beat(), name="status")

    async def _prepare_jobs(self, services: Services, queue: WorkQueue) -> None:
        while True:
            await self._slots.acquire()
            delivery = await self._patiently(queue)
            job = JobInHand(delivery, services)
            await job.open()
            self._in_hand[job.job_id] = job
            try:
                wanted = await job.prepare()
            except BrokerError as error:
                log.warning("job %s could not be fetched, it will be delivered again: %s", job.job_id, error)
                wanted = False
            if wanted:
                await self._ready.put(job)
            else:
                await self._let_go(job)

    async def _patiently(self, queue: WorkQueue) -> Delivery:
        """Pull, whatever it takes: a server that is gone comes back."""
        while True:
            try:
                return await queue.pull()
            except Unavailable as error:
                log.warning("no jobs can be pulled: %s", error)
                await asyncio.sleep(BROKER_RETRY_SECS)

    async def _run_jobs(self) -> None:
        while True:
            self._running = job = await self._ready.get()
            await self._tell_status()
            try:
                await job.run()
            except BrokerError as error:
                log.warning("job %s is interrupted, it will be delivered again: %s", job.job_id, error)
            except Exception:  # a poison job must not take the worker down; its attempts are counted
                log.exception("job %s failed unexpectedly", job.job_id)
                await job.put_back()
            self._running = None
            await self._let_go(job)
            await self._tell_status()

    async def _let_go(self, job: JobInHand) -> None:
        await job.close()
        self._in_hand.pop(job.job_id, None)
        self._slots.release()

    async def _give_back(self) -> None:
        """On the way out: the queue gets its jobs back now, not after the ack deadline."""
        for job in list(self._in_hand.values()):
            try:
                async with asyncio.timeout(5):
                    await job.release()
            except (BrokerError, TimeoutError) as error:
                log.warning("job %s could not be given back, its deadline will do it: %s", job.job_id, error)
            await self._let_go(job)

    async def _sign_off(self, statuses: WorkerStatuses) -> None:
        try:
            await statuses.forget(self._settings.name())
        except BrokerError as error:  # the status expires by itself
            log.info("no goodbye to the broker: %s", error)

    @asynccontextmanager
    async def _listening_for_cancels(self, client: Client) -> AsyncIterator[None]:
        async def on_cancel(message: Msg) -> None:
            job = self._in_hand.get(subjects.last_token(message.subject))
            if job is not None:
                job.cancelled.set()

        sub = await client.subscribe(subjects.ALL_CANCELS, cb=on_cancel)
        try:
            yield
        finally:
            await sub.unsubscribe()

    async def _beat(self) -> None:
        while True:
            await self._tell_status()
            await asyncio.sleep(STATUS_SECS)

    async def _tell_status(self) -> None:
        if self._statuses is None:
            return
        status = WorkerStatus(
            worker_id=self._settings.name(),
            at=datetime.now(UTC),
            model=self._model.status(),
            job_id=self._running.job_id if self._running else None,
            gpu=await asyncio.to_thread(self._gpu.status),
        )
        try:
            await self._statuses.tell(status)
        except BrokerError as error:
            log.warning("the worker's status could not be told: %s", error)
