"""One job in this worker's hands: from the delivery to its end, and what each way of ending does to the delivery."""

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
from gpu_worker.blame import Fault, MachineTrouble, fault_of, in_words
from gpu_worker.engine.failure import EngineFailure
from gpu_worker.engine.process import EngineProcess
from gpu_worker.job.burying import request_of
from gpu_worker.job.preparing import Plan, prepare
from gpu_worker.job.settling import Settling
from gpu_worker.job.timings import Waits, timings
from gpu_worker.job.transcription import EngineRefused, Transcription
from gpu_worker.model.loading import OutOfVram
from gpu_worker.model.model import ModelUnavailable, Stopped
from gpu_worker.services import Services
from process.racing import unless
from schemas.errors import ErrorCode, JobError, RequestError
from schemas.job_lifecycle import IllegalChange, PreparationBegun, PreparationEnded
from schemas.jobs import JobRequest, Timings
from schemas.submission import same_job

log = logging.getLogger(__name__)

Ending = Callable[[], Awaitable[None]]
"""What is left to do with a job when worker and engine are free for the next. Safe to repeat."""


class JobInHand:
    """A delivered job, between `open` and `close` kept alive in the queue."""

    def __init__(self, delivery: Delivery, services: Services) -> None:
        self._delivery, self._services = delivery, services
        self.job_id, self.key = delivery.job_id, delivery.key
        self.stop = asyncio.Event()
        """Give up: the job is cancelled, or the GPU is wanted back."""
        self._prepared: Plan | JobError | None = None
        self._waits = Waits(queue=max(0.0, (datetime.now(UTC) - delivery.stored_at).total_seconds()))
        self._transcription: Transcription | None = None
        self._folder: Path | None = None
        self._settling = Settling(delivery, services)
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        await self._stack.enter_async_context(self._delivery.kept_alive())
        await self._stack.enter_async_context(self._settling.claim.kept())

    async def close(self) -> None:
        await self._stack.aclose()
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def adopt(self, again: Delivery) -> bool:
        """Take over a delivery of the very job that is in hand; False where it is another one."""
        return self._settling.adopt(again)

    async def release(self) -> None:
        """Give the job back unharmed. Raises Unavailable."""
        await self._settling.release()

    async def bury(self, error: Exception) -> None:
        """Nothing else can be done with it. Raises BrokerError."""
        await self._settling.bury(error)

    async def prepare(self) -> Ending | None:
        """All that can be done without the engine. None: the job is ready for it; else what is left to do with the job."""
        try:
            return await self._make_ready(request_of(self._delivery))
        except RequestError as error:
            return partial(self._settling.refuse, error)
        except (IllegalChange, Conflict) as why:
            return partial(self._settling.leave, why)
        except Exception as failure:
            return self._after(failure)

    async def _make_ready(self, request: JobRequest) -> Ending | None:
        services = self._services
        record = await patiently(f"job {self.job_id}", lambda: services.records.get(self.job_id))
        if record is not None and has_ended(record):
            same_job(record.request, request)
            return partial(self._settling.finish, record)
        begun = PreparationBegun(at=datetime.now(UTC), run_id=services.run_id)
        record = await self._settling.claim.change(begun)
        if record.preparations > services.settings.job_max_attempts:
            # Worker after worker was not heard of again after this point.
            message = f"Preparing this audio has ended {record.preparations - 1} workers in a row."
            return partial(self._settling.abandon, JobError(code=ErrorCode.WORKER_CRASHED, message=message))
        self._folder = await asyncio.to_thread(services.spool.folder, self.job_id)
        self._prepared = await unless(self._prepare(request, self._folder), self.stop.wait())
        if self._prepared is None:
            return self._way_out()
        await self._settling.claim.change(PreparationEnded(at=datetime.now(UTC)))
        return None

    async def _prepare(self, request: JobRequest, folder: Path) -> Plan | JobError:
        """Raises what is not the file's fault."""
        services = self._services
        try:
            return await prepare(services.store, services.settings, self.job_id, request, folder)
        except Exception as error:
            if fault_of(error) is not Fault.FILE:
                raise
            log.exception("job %s: preparing it failed", self.job_id)
            message = f"Preparing the audio failed unexpectedly: {type(error).__name__}: {in_words(error)}."
            return JobError(code=ErrorCode.INTERNAL, message=message)

    async def work(self) -> Ending:
        """Use the engine for as long as it is needed; gives back what is left to do, for which it is not."""
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
        """What a failure does to the job, by whose fault it is."""
        if isinstance(failure, EngineFailure) and self._plan is not None and not self._plan.is_spooled():
            failure = MachineTrouble("The decoded audio of a job is gone from the spool.")
        fault = fault_of(failure)
        log.warning("job %s: %s (fault: %s)", self.job_id, in_words(failure), fault)
        if fault is Fault.MACHINE:
            self._services.machine.report(in_words(failure))
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
        """Of a job that was told to stop."""
        evicted = self._services.model.is_evicted(self.key)
        return self.release if evicted else partial(self._settling.leave, "it was cancelled")

    async def _after_crash(self, failure: EngineFailure) -> None:
        """The engine has crashed on this job: try again, or give up. The claim stays open, which is what counts."""
        record = await self._services.records.get(self.job_id)  # a commit has forgiven what was before
        if record is None or record.attempts < self._services.settings.job_max_attempts:
            await self._settling.put_back()
            return
        last_words = " | ".join(failure.stderr[-5:])
        message = f"The engine crashed on each of {record.attempts} attempts: {failure.detail}. {last_words}"
        await self._end(JobError(code=ErrorCode.ENGINE_CRASHED, message=message.strip()))

    async def _end(self, error: JobError | None) -> None:
        try:
            claim = await self._settling.claim.take(self._plan)
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
        """Why the job failed for good, or None when it is transcribed."""
        plan = self._prepared
        if plan is None:
            raise RuntimeError("prepare() comes first")
        if isinstance(plan, JobError):
            return plan
        if not plan.stretches:
            return None  # nobody speaks: no model is needed for that
        loop = asyncio.get_running_loop()
        while True:
            asked_at = loop.time()
            try:
                async with self._services.model.engine(self.key) as engine:
                    self._waits.turn += loop.time() - asked_at
                    self._waits.model = self._services.model.load_secs_of(self.key)
                    return await self._transcribe(engine, plan)
            except OutOfVram as why:
                log.warning("job %s waits for VRAM: %s", self.job_id, why)
            except ModelUnavailable as why:
                return JobError(code=ErrorCode.MODEL_UNAVAILABLE, message=str(why))
            except EngineRefused as why:
                message = f"whisper.cpp refused the audio: {why}."
                return JobError(code=ErrorCode.TRANSCRIPTION_FAILED, message=message)

    async def _transcribe(self, engine: EngineProcess, plan: Plan) -> JobError | None:
        """Claim the job and do what is not done yet of it."""
        services, record = self._services, await self._settling.claim.take(plan)
        if record.attempts > services.settings.job_max_attempts:
            message = f"The engine or its worker died {record.attempts - 1} times in a row on this job."
            return JobError(code=ErrorCode.ENGINE_CRASHED, message=message)
        is_whole = record.epoch == 1 and self._transcription is None
        if self._transcription is None:  # else an engine before this one ran out of VRAM
            self._transcription = Transcription(self._settling.claim, plan, services, self.stop)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await self._transcription.run(engine)
        if is_whole:
            services.measured(plan.duration_secs, loop.time() - begun)
        return None
