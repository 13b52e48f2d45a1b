"""One job in this worker's hands, from its delivery to its end: prepare it, give it the engine, decide how it ends."""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from broker.errors import Conflict, Refused
from broker.job_records import has_ended
from broker.patience import patiently
from broker.work_queue import Delivery
from gpu_worker.audio.plan import Plan
from gpu_worker.blame import Fault, MachineTrouble, fault_of, in_words
from gpu_worker.engine.failure import EngineFailure
from gpu_worker.engine.process import EngineProcess
from gpu_worker.job.burying import request_of
from gpu_worker.job.claim import Claim
from gpu_worker.job.listening import EngineRefused
from gpu_worker.job.preparing import prepare
from gpu_worker.job.settling import Settling
from gpu_worker.job.storage import JobStorage
from gpu_worker.job.timings import Waits, timings
from gpu_worker.job.transcription import Transcription
from gpu_worker.model.loading import OutOfVram
from gpu_worker.model.model import ModelUnavailable, Stopped
from gpu_worker.workplace import Workplace
from process.racing import unless
from schemas.errors import ErrorCode, JobError, RequestError
from schemas.job_lifecycle import IllegalChange, PreparationBegun, PreparationEnded
from schemas.jobs import JobRequest, Timings
from schemas.submission import same_job

log = logging.getLogger(__name__)

Ending = Callable[[], Awaitable[None]]
"""The rest of the work on a job, which needs neither the engine nor the worker's place for a job. Safe to repeat."""


class JobInHand:
    """A delivered job. Between `open` and `close` its delivery and its record are kept alive."""

    def __init__(self, delivery: Delivery, storage: JobStorage, workplace: Workplace) -> None:
        self._delivery, self._storage, self._workplace = delivery, storage, workplace
        self._model, self._settings = workplace.model, workplace.settings
        self.job_id, self.key = delivery.job_id, delivery.key
        self.stop = asyncio.Event()
        """Set when the job must give up: it is cancelled, or the GPU is wanted back."""
        self._prepared: Plan | JobError | None = None
        self._waits = Waits(queue=max(0.0, (datetime.now(UTC) - delivery.stored_at).total_seconds()))
        self._transcription: Transcription | None = None
        self._folder: Path | None = None
        self._claim = Claim(
            self.job_id,
            self._settings.name(),
            storage.records,
            storage.events,
            self._settings.job_retention_secs,
        )
        self._settling = Settling(
            delivery, self._claim, storage, workplace.machine, self._settings.audio_retention_secs
        )
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Begin to keep the delivery and the record alive."""
        await self._stack.enter_async_context(self._delivery.kept_alive())
        await self._stack.enter_async_context(self._claim.kept())

    async def close(self) -> None:
        """Stop keeping them alive, and delete the job's spool folder."""
        await self._stack.aclose()
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def adopt(self, again: Delivery) -> bool:
        """Take over a second delivery of the same submission. Returns False where it is another one."""
        return self._settling.adopt(again)

    async def release(self) -> None:
        """Give the job back to the queue without spending an attempt. Raises Unavailable."""
        await self._settling.release()

    async def bury(self, error: Exception) -> None:
        """Make a dead letter of it: nothing else can be done. Raises BrokerError."""
        await self._settling.bury(error)

    async def prepare(self) -> Ending | None:
        """Do all that can be done without the engine. Returns None where the job is ready for it, else how the job ends."""
        try:
            return await self._make_ready(request_of(self._delivery))
        except RequestError as error:
            return partial(self._settling.refuse, error)
        except (IllegalChange, Conflict) as why:
            return partial(self._settling.leave, why)
        except Exception as failure:
            return self._after(failure)

    async def _make_ready(self, request: JobRequest) -> Ending | None:
        record = await patiently(f"job {self.job_id}", lambda: self._storage.records.get(self.job_id))
        if record is not None and has_ended(record):
            same_job(record.request, request)
            return partial(self._settling.finish, record)
        begun = PreparationBegun(at=datetime.now(UTC), run_id=self._workplace.run_id)
        record = await self._claim.change(begun)
        if record.preparations > self._settings.job_max_attempts:
            # Each of these workers began to prepare this job and was never heard of again.
            message = f"Preparing this audio has ended {record.preparations - 1} workers in a row."
            return partial(self._settling.abandon, JobError(code=ErrorCode.WORKER_CRASHED, message=message))
        self._folder = await asyncio.to_thread(self._workplace.spool.folder, self.job_id)
        self._prepared = await unless(self._prepare(request, self._folder), self.stop.wait())
        if self._prepared is None:
            return self._way_out()
        await self._claim.change(PreparationEnded(at=datetime.now(UTC)))
        return None

    async def _prepare(self, request: JobRequest, folder: Path) -> Plan | JobError:
        """Prepare the job. A failure that is the file's fault is returned; every other one is raised."""
        try:
            return await prepare(self._storage.objects, self._settings, self.job_id, request, folder)
        except Exception as error:
            if fault_of(error) is not Fault.FILE:
                raise
            log.exception("job %s: preparing it failed", self.job_id)
            message = f"Preparing the audio failed unexpectedly: {type(error).__name__}: {in_words(error)}."
            return JobError(code=ErrorCode.INTERNAL, message=message)

    async def work(self) -> Ending:
        """Use the engine for as long as the job needs it, and return how the job ends."""
        try:
            error = await self._attempt()
        except Stopped:
            return self._way_out()
        except (IllegalChange, Conflict) as why:
            return partial(self._settling.leave, why)
        except Exception as failure:
            return self._after(failure)
        return partial(self._end, error)

    def _after(self, failure: Exception) -> Ending:
        """Return how a job ends after a failure, which depends on whose fault it is (docs/adr/0020)."""
        if isinstance(failure, EngineFailure) and self._plan is not None and not self._plan.is_spooled():
            failure = MachineTrouble("The decoded audio of a job is gone from the spool.")
        fault = fault_of(failure)
        log.warning("job %s: %s (fault: %s)", self.job_id, in_words(failure), fault)
        if fault is Fault.MACHINE:
            self._workplace.machine.report(in_words(failure))
            return self._settling.release_from_trouble
        if fault is Fault.BROKER:
            return self.release
        if isinstance(failure, EngineFailure):
            return partial(self._after_crash, failure)
        log.error("job %s failed unexpectedly", self.job_id, exc_info=failure)
        message = f"Something unexpected: {type(failure).__name__}: {in_words(failure)}."
        code = ErrorCode.BROKER_REFUSED if isinstance(failure, Refused) else ErrorCode.INTERNAL
        return partial(self._settling.abandon, JobError(code=code, message=message))

    def _way_out(self) -> Ending:
        """Return how a job ends that was told to stop."""
        evicted = self._model.is_evicted(self.key)
        return self.release if evicted else partial(self._settling.leave, "it was cancelled")

    async def _after_crash(self, failure: EngineFailure) -> None:
        """The engine has crashed on this job: put it back, or fail it. The claim stays open, and so counts as an attempt."""
        # Read again, because a commit in between has reset the number of attempts.
        record = await self._storage.records.get(self.job_id)
        if record is None or record.attempts < self._settings.job_max_attempts:
            await self._settling.put_back()
            return
        last_words = " | ".join(failure.stderr[-5:])
        message = f"The engine crashed on each of {record.attempts} attempts: {failure.detail}. {last_words}"
        await self._end(JobError(code=ErrorCode.ENGINE_CRASHED, message=message.strip()))

    async def _end(self, error: JobError | None) -> None:
        try:
            claim = await self._claim.take(self._plan)
            if error is not None:
                await self._settling.fail(error)
                return
            if self._transcription is not None:
                await self._transcription.commit_last()
            await self._settling.complete(self._timings(claim.request))
        except (IllegalChange, Conflict) as why:
            await self._settling.leave(why)

    @property
    def _plan(self) -> Plan | None:
        return self._prepared if isinstance(self._prepared, Plan) else None

    def _timings(self, request: JobRequest) -> Timings | None:
        if self._plan is None:
            return None
        spent = self._transcription
        calls, publish_secs = (spent.calls, spent.publish_secs) if spent else ([], 0.0)
        return timings(request, self._waits, self._plan, calls, publish_secs)

    async def _attempt(self) -> JobError | None:
        """Transcribe the job. Returns why it failed for good, or None."""
        plan = self._prepared
        if plan is None:
            raise RuntimeError("prepare() comes first")
        if isinstance(plan, JobError):
            return plan
        if not plan.portions:
            # Nobody speaks in this audio, which needs no model to be known.
            return None
        loop = asyncio.get_running_loop()
        while True:
            asked_at = loop.time()
            try:
                async with self._model.engine(self.key) as engine:
                    self._waits.turn += loop.time() - asked_at
                    self._waits.model = self._model.load_secs_of(self.key)
                    return await self._transcribe(engine, plan)
            except OutOfVram as why:
                log.warning("job %s waits for VRAM: %s", self.job_id, why)
            except ModelUnavailable as why:
                return JobError(code=ErrorCode.MODEL_UNAVAILABLE, message=str(why))
            except EngineRefused as why:
                return JobError(code=why.code, message=str(why))

    async def _transcribe(self, engine: EngineProcess, plan: Plan) -> JobError | None:
        """Claim the job and transcribe what is not transcribed yet."""
        record = await self._claim.take(plan)
        if record.attempts > self._settings.job_max_attempts:
            message = f"The engine or its worker died {record.attempts - 1} times in a row on this job."
            return JobError(code=ErrorCode.ENGINE_CRASHED, message=message)
        is_whole = record.epoch == 1 and self._transcription is None
        # There is one already where an engine before this one has run out of VRAM.
        if self._transcription is None:
            self._transcription = Transcription(
                self._claim, plan, self._storage, self.stop, self._settings.abort_grace_secs
            )
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await self._transcription.run(engine)
        if is_whole:
            self._workplace.on_measured(plan.audio_secs, loop.time() - begun)
        return None
