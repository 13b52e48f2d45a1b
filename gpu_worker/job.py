"""One job in this worker's hands: from the delivery to its end, and what each way of ending does to the delivery."""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from broker.errors import BrokerError, Conflict
from broker.job_records import has_ended
from broker.pulling import unless
from broker.work_queue import Delivery
from gpu_worker.engine.process import EngineFailure, EngineProcess
from gpu_worker.loading import OutOfVram
from gpu_worker.model import ModelUnavailable
from gpu_worker.preparing import Plan, prepare
from gpu_worker.services import Services
from gpu_worker.timings import Waits, timings
from gpu_worker.transcription import EngineRefused, Stopped, Transcription
from schemas.errors import ErrorCode, JobError, RequestError
from schemas.events import Invalid, Started
from schemas.job_lifecycle import (
    Abandoned,
    Change,
    Claimed,
    Completed,
    Failed,
    IllegalChange,
    PreparationBegun,
    PreparationEnded,
    Released,
)
from schemas.jobs import JobRecord, JobRequest, Timings
from schemas.subjects import is_job_id
from schemas.submission import parse_request, same_job

log = logging.getLogger(__name__)

Ending = Callable[[], Awaitable[None]]
"""What is left to do with a job when the engine is free for the next."""

CRASH_RETRY_SECS = 1.0
"""A job whose engine crashed comes back so much later, so that other jobs go first."""


class JobInHand:
    """A delivered job, between `open` and `close` kept alive in the queue."""

    def __init__(self, delivery: Delivery, services: Services) -> None:
        self._delivery, self._services = delivery, services
        self.job_id = delivery.job_id
        self.stop = asyncio.Event()
        """Give up: the job is cancelled, or the GPU is wanted back."""
        self._prepared: Plan | JobError | None = None
        self._waits = Waits(queue=max(0.0, (datetime.now(UTC) - delivery.stored_at).total_seconds()))
        self._transcription: Transcription | None = None
        self._folder: Path | None = None
        self._claimed: JobRecord | None = None
        self._last_seq = 0
        """Of the event that told of the claim."""
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        await self._stack.enter_async_context(self._delivery.kept_alive())

    async def close(self) -> None:
        await self._stack.aclose()
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def prepare(self) -> bool:
        """All that can be done without the engine; False where nothing is left to do. Raises Unavailable."""
        services = self._services
        try:
            request = self._request()
            record = await services.records.get(self.job_id)
            if record is not None and has_ended(record):
                same_job(record.request, request)
        except RequestError as error:
            await self._bury(error)
            return False
        if record is not None and has_ended(record):
            await self._finish(record)
            return False
        try:
            if not await self._may_be_prepared():
                return False
            self._folder = await asyncio.to_thread(services.spool.folder, self.job_id)
            self._prepared = await unless(self._prepare(request, self._folder), self.stop.wait())
            if self._prepared is None:
                await self._way_out()()
                return False
            await self._change(PreparationEnded(at=datetime.now(UTC)))
        except (IllegalChange, Conflict) as why:
            await self._leave(why)
            return False
        return True

    def _request(self) -> JobRequest:
        """Raises RequestError."""
        if not is_job_id(self.job_id):
            raise RequestError(ErrorCode.INVALID_REQUEST, "A job id is 1 to 64 of A-Z a-z 0-9 - _.")
        return parse_request(self._delivery.body)

    async def _bury(self, error: RequestError) -> None:
        """The message is no job: keep it with the reason, tell whoever waits for it, and never see it again."""
        delivery, services = self._delivery, self._services
        log.warning("job %r: unusable submission: %s", self.job_id, error.detail)
        reason, letter_id = f"{error.code}: {error.detail}", f"submit {delivery.seq}"
        await services.dead.add(delivery.subject, delivery.body, reason, letter_id)
        if is_job_id(self.job_id):
            now = datetime.now(UTC)
            event = Invalid(
                job_id=self.job_id, at=now, code=error.code, message=error.detail, field=error.field
            )
            await services.events.append_invalid(event, letter_id)
        await delivery.discard()

    async def _may_be_prepared(self) -> bool:
        """False, and the job has failed, where worker after worker was not heard of again after this point."""
        services, now = self._services, datetime.now(UTC)
        record = await self._change(PreparationBegun(at=now, run_id=services.run_id))
        if record.preparations <= services.settings.job_max_attempts:
            return True
        message = f"Preparing this audio has ended {record.preparations - 1} workers in a row."
        error = JobError(code=ErrorCode.WORKER_CRASHED, message=message)
        await self._finish(await self._change(Abandoned(at=now, error=error)))
        return False

    async def _prepare(self, request: JobRequest, folder: Path) -> Plan | JobError:
        services = self._services
        try:
            return await prepare(services.store, services.settings, self.job_id, request, folder)
        except BrokerError:
            raise
        except Exception as error:  # a poison job must not take the worker down, again and again
            log.exception("job %s: preparing it failed", self.job_id)
            message = f"Preparing the audio failed unexpectedly: {type(error).__name__}: {error}."
            return JobError(code=ErrorCode.INTERNAL, message=message)

    async def work(self) -> Ending:
        """Use the engine for as long as it is needed; gives back what is left to do, for which it is not.

        Raises Unavailable.
        """
        try:
            error = await self._attempt()
        except EngineFailure as failure:
            log.warning("job %s: %s", self.job_id, failure)
            return self.put_back
        except Stopped:
            return self._way_out()
        except (IllegalChange, Conflict) as why:
            return partial(self._leave, why)
        return partial(self._end, error)

    def _way_out(self) -> Ending:
        """Of a job that was told to stop."""
        evicted = self._services.model.is_evicted(self.job_id)
        return self.release if evicted else partial(self._leave, "it was cancelled")

    async def _end(self, error: JobError | None) -> None:
        try:
            claim, now = await self._claim(), datetime.now(UTC)
            if error is None and self._transcription is not None:
                await self._transcription.commit_last()
            if error is None:
                ended = Completed(at=now, epoch=claim.epoch, timings=self._timings(claim.request))
                await self._finish(await self._change(ended))
            else:
                await self._finish(await self._change(Failed(at=now, epoch=claim.epoch, error=error)))
        except (IllegalChange, Conflict) as why:
            await self._leave(why)

    def _timings(self, request: JobRequest) -> Timings | None:
        if not isinstance(self._prepared, Plan):
            return None
        spent = self._transcription
        calls, publish_secs = (spent.calls, spent.publish_secs) if spent else ([], 0.0)
        return timings(request, self._waits, self._prepared, calls, publish_secs)

    async def put_back(self) -> None:
        """After trouble of our own. Each new claim is an attempt, so this ends. Raises Unavailable."""
        await self._delivery.put_back(CRASH_RETRY_SECS)

    async def release(self) -> None:
        """Give the job back unharmed: it resumes at its first uncommitted stretch. Raises Unavailable."""
        if self._delivery.is_settled:
            return
        now, claim = datetime.now(UTC), self._claimed
        try:
            await self._change(Released(at=now, epoch=claim.epoch) if claim else PreparationEnded(at=now))
        except (IllegalChange, Conflict) as why:
            await self._leave(why)
            return
        await self._delivery.put_back()
        log.info("job %s: given back", self.job_id)

    async def _claim(self) -> JobRecord:
        """The record as we claimed it, once."""
        if self._claimed is None:
            worker_id = self._services.settings.name()
            plan, now = self._prepared, datetime.now(UTC)
            claim = Claimed(at=now, worker_id=worker_id)
            if isinstance(plan, Plan):
                claim = Claimed(
                    at=now,
                    worker_id=worker_id,
                    duration_secs=plan.duration_secs,
                    stretches=len(plan.stretches),
                )
            self._claimed = record = await self._change(claim)
            started = Started(
                job_id=self.job_id, at=datetime.now(UTC), worker_id=worker_id, attempt=record.attempts
            )
            self._last_seq = await self._services.events.append(started)
        return self._claimed

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
                async with self._services.model.engine(self.job_id) as engine:
                    self._waits.turn += loop.time() - asked_at
                    self._waits.model = self._services.model.load_secs_of(self.job_id)
                    return await self._transcribe(engine, plan)
            except OutOfVram as why:
                log.warning("job %s waits for VRAM: %s", self.job_id, why)
            except ModelUnavailable as why:
                return JobError(code=ErrorCode.MODEL_UNAVAILABLE, message=str(why))
            except EngineRefused as why:
                message = f"whisper.cpp refused the audio: {why}."
                return JobError(code=ErrorCode.TRANSCRIPTION_FAILED, message=message)
            except EngineFailure as failure:
                if (error := await self._last_attempt(failure)) is None:
                    raise
                return error

    async def _transcribe(self, engine: EngineProcess, plan: Plan) -> JobError | None:
        """Claim the job and do what is not done yet of it."""
        services, claim = self._services, await self._claim()
        if claim.attempts > services.settings.job_max_attempts:
            message = f"The engine or its worker died {claim.attempts - 1} times in a row on this job."
            return JobError(code=ErrorCode.ENGINE_CRASHED, message=message)
        is_whole = claim.committed == 0 and self._transcription is None
        if self._transcription is None:  # else an engine before this one ran out of VRAM
            grace = services.settings.abort_grace_secs
            self._transcription = Transcription(
                claim, self._last_seq, plan, services.records, services.events, self.stop, grace
            )
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await self._transcription.run(engine)
        if is_whole:
            services.measured(plan.duration_secs, loop.time() - begun)
        return None

    async def _last_attempt(self, failure: EngineFailure) -> JobError | None:
        """The job's error where its engine has crashed once too often; None where it may be tried again."""
        record = await self._services.records.get(self.job_id)  # a commit has forgiven what was before
        if record is None or record.attempts < self._services.settings.job_max_attempts:
            return None
        last_words = " | ".join(failure.stderr[-5:])
        message = f"The engine crashed on each of {record.attempts} attempts: {failure.detail}. {last_words}"
        return JobError(code=ErrorCode.ENGINE_CRASHED, message=message.strip())

    async def _change(self, change: Change) -> JobRecord:
        return await self._services.records.change(self.job_id, change)

    async def _finish(self, record: JobRecord) -> None:
        """Everything that follows an end. Safe to repeat: a crash in between brings the job here again."""
        services = self._services
        await services.events.append_terminal(record, record.completed_at or datetime.now(UTC))
        if services.settings.audio_retention_secs == 0:
            await services.audio.release(record)
        await self._delivery.ack()
        log.info("job %s: %s", self.job_id, record.status)

    async def _leave(self, why: object) -> None:
        """The job is not ours any more: it has ended, or another worker has it and will end it."""
        record = await self._services.records.get(self.job_id)
        if record is not None and has_ended(record):
            await self._finish(record)
        else:
            log.warning("job %s: left to its new owner (%s)", self.job_id, why)
