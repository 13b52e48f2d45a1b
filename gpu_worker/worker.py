"""The worker: two loops that meet at a short queue, so that the next job is decoded while this one is transcribed.

    pull -> prepare (network, decoder, VAD: CPU) -> [queue] -> run (engine: GPU) -> end

Everything runs in one TaskGroup. A failure of one job is handled in one place (`_end`). Any other failure ends the worker,
and its supervisor starts it again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg

from broker.connection import connect, goodbye
from broker.patience import patiently
from broker.topology.ensure import ensure
from broker.work_queue import Delivery, WorkQueue
from broker.worker_status import WorkerStatuses
from gpu_worker.announcing import Announcer
from gpu_worker.audio import decoding
from gpu_worker.intake import LOOK_SECS, Intake
from gpu_worker.job.in_hand import Ending, JobInHand
from gpu_worker.job.storage import JobStorage
from gpu_worker.machine import Machine
from gpu_worker.model.gpu import Gpu
from gpu_worker.model.model import Model
from gpu_worker.model.service import serve_model
from gpu_worker.places import IN_HAND, Places
from gpu_worker.settings import WorkerSettings
from gpu_worker.spool import Spool
from gpu_worker.workplace import Workplace
from schemas import subjects
from schemas.jobs import JobStatus

log = logging.getLogger(__name__)

CANCELLED_EVENTS = subjects.event("*", JobStatus.CANCELLED)


class Worker:
    """One worker process: one GPU, one model, one job on it at a time."""

    def __init__(self, settings: WorkerSettings, gpu: Gpu) -> None:
        self._settings = settings
        self._spool = Spool(settings.spool())
        self._announcer = Announcer(settings.name())
        self._machine = Machine(self._probe, self._announcer.status_changed)
        self._model = Model(settings, gpu, self._announcer.model_changed, self._machine.report)
        self._in_hand: dict[str, JobInHand] = {}
        """Jobs by the keys of their deliveries, because a job may be delivered again while it is here."""
        self._placed: set[str] = set()
        """The keys of the jobs that are being prepared, wait for the engine or have it."""
        self._intake: Intake | None = None
        self._places = Places()
        self._ready: asyncio.Queue[JobInHand] = asyncio.Queue(IN_HAND)

    async def run(self) -> None:
        """Work until cancelled; then give back the jobs in hand and end the engine."""
        name = f"gpu-worker {self._settings.name()}"
        async with connect(self._settings, name) as (client, js):
            settings = self._settings = await ensure(js, self._settings)
            statuses, queue = await WorkerStatuses.open(js), WorkQueue(js, settings)
            storage = await JobStorage.open(js)
            workplace = Workplace(settings, self._model, self._machine, self._spool, self._announcer.measured)
            gates = self._model.gate, self._machine.gate
            self._intake = intake = Intake(queue, gates, lambda: bool(self._placed), self._machine.passes_on)
            try:
                async with (
                    serve_model(client, self._model, settings.name()),
                    self._listening(client, CANCELLED_EVENTS, self._on_cancelled),
                    self._listening(client, subjects.ALL_SUBMITS, self._on_submit),
                    asyncio.TaskGroup() as tasks,
                ):
                    tasks.create_task(self._model.run(), name="model")
                    tasks.create_task(self._machine.run(), name="machine")
                    tasks.create_task(self._prepare_jobs(tasks, storage, workplace), name="prepare")
                    tasks.create_task(self._share(tasks, intake), name="share")
                    tasks.create_task(self._run_jobs(tasks), name="run")
                    announcing = self._announcer.run(statuses, storage.events, self._model, self._machine)
                    tasks.create_task(announcing, name="announce")
            finally:
                # Together, because a silent server costs each of them its whole timeout.
                async with asyncio.TaskGroup() as farewells:
                    farewells.create_task(self._hand_over(intake), name="hand over")
                    farewells.create_task(self._announcer.sign_off(statuses), name="sign off")

    async def _probe(self) -> None:
        """Check that this machine can work. Raises what is wrong with it."""
        await asyncio.to_thread(self._spool.check)
        await decoding.check(self._settings.decoder())

    async def _prepare_jobs(
        self, tasks: asyncio.TaskGroup, storage: JobStorage, workplace: Workplace
    ) -> None:
        """Pull and prepare one job after the other, while there is a place for it. Nobody waits long for a slow one."""
        if self._intake is None:
            raise RuntimeError("run() makes the intake first")
        while True:
            await self._places.take()
            job = await self._take(await self._intake.next(), storage, workplace)
            if job is None:
                self._places.free()
                continue
            preparing = tasks.create_task(self._prepare(tasks, job), name=f"prepare {job.job_id}")
            await self._places.until_done_or_aside(job.key, preparing)

    async def _prepare(self, tasks: asyncio.TaskGroup, job: JobInHand) -> None:
        ending = await job.prepare()
        await self._places.back(job.key)
        if ending is None:
            await self._ready.put(job)
        else:
            self._left(job)
            tasks.create_task(self._end(job, ending), name=f"end {job.job_id}")

    async def _take(self, delivery: Delivery, storage: JobStorage, workplace: Workplace) -> JobInHand | None:
        """Take a delivery into our hands. Returns None where its job is here already, and our keep-alives were lost."""
        if any(job.adopt(delivery) for job in self._in_hand.values()):
            log.info("job %s was delivered again while it is in hand", delivery.job_id)
            return None
        job = JobInHand(delivery, storage, workplace)
        self._in_hand[job.key] = job
        self._placed.add(job.key)
        self._model.job_arrived(job.key, job.job_id, job.stop)
        await job.open()
        return job

    async def _share(self, tasks: asyncio.TaskGroup, intake: Intake) -> None:
        """Give the prepared job, which waits for ours to end, back to the queue as soon as another worker is idle."""
        while True:
            await asyncio.sleep(LOOK_SECS)
            if self._ready.empty() or not await intake.is_wanted_by_others() or self._ready.empty():
                continue
            job = self._ready.get_nowait()
            self._left(job)
            tasks.create_task(self._end(job, job.release), name=f"share {job.job_id}")

    async def _run_jobs(self, tasks: asyncio.TaskGroup) -> None:
        """Give the engine to one job after the other. The end of a job is written while the next one has the engine."""
        while True:
            job = await self._ready.get()
            self._announcer.job_id = job.job_id
            self._announcer.status_changed()
            ending = await job.work()
            self._announcer.job_id = None
            self._left(job)
            self._announcer.status_changed()
            tasks.create_task(self._end(job, ending), name=f"end {job.job_id}")

    def _left(self, job: JobInHand) -> None:
        """Free the engine and the place of a job that needs them no more."""
        self._model.job_left(job.key)
        self._placed.discard(job.key)
        self._places.free()
        if self._intake is not None:
            self._intake.look_again()

    async def _end(self, job: JobInHand, ending: Ending) -> None:
        """Carry out the end of a job. A job that cannot be ended in any other way becomes a dead letter, and work goes on."""
        try:
            await patiently(f"job {job.job_id}: its end", ending)
        except Exception as error:
            log.exception("job %s cannot be ended", job.job_id)
            await self._bury(job, error)
        await self._close(job)

    async def _bury(self, job: JobInHand, error: Exception) -> None:
        try:
            await patiently(f"job {job.job_id}: burying it", lambda: job.bury(error))
        except Exception:
            log.exception("job %s cannot even be buried, it will be delivered again", job.job_id)

    async def _close(self, job: JobInHand) -> None:
        await job.close()
        self._in_hand.pop(job.key, None)

    async def _hand_over(self, intake: Intake) -> None:
        """Give all jobs back while the worker stops, so that the queue has them now and not after the ack deadline.

        The pull is closed first, because a job that is given back would otherwise be delivered to us again.
        """
        async with goodbye("close the pull"):
            await intake.turn_away()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._model.close(), name="end the engine")
            for job in list(self._in_hand.values()):
                tasks.create_task(self._release(job), name=f"give back {job.job_id}")
        await asyncio.to_thread(self._spool.close)

    async def _release(self, job: JobInHand) -> None:
        # Where nats-server does not answer, the ack deadline gives the job back.
        async with goodbye(f"give back job {job.job_id}"):
            await job.release()
        self._model.job_left(job.key)
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
        """Stop a job that is cancelled. Its record has ended already: a worker that misses this message meets the fence."""
        self._model.stop_job(subjects.job_of(message.subject))

    async def _on_submit(self, message: Msg) -> None:
        """A new job means that somebody wants the model, also after a forced unload."""
        self._model.gate.open()
        if self._intake is not None:
            self._intake.look_again()
