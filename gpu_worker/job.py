"""One job in this worker's hands: from the delivery to its end, and what each way of ending does to the delivery."""

import asyncio
import logging
import shutil
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from broker.audio_store import AudioStore
from broker.errors import BrokerError, Conflict
from broker.event_log import EventLog
from broker.job_records import JobRecords, has_ended
from broker.work_queue import Delivery
from gpu_worker.engine.process import EngineFailure
from gpu_worker.model import Model, ModelUnavailable
from gpu_worker.preparing import Plan, Spool, prepare
from gpu_worker.settings import WorkerSettings
from gpu_worker.transcription import EngineRefused, JobCancelled, Transcription
from schemas.errors import ErrorCode, JobError, RequestError
from schemas.events import Started
from schemas.job_lifecycle import Change, Claimed, Completed, Failed, IllegalChange, Prepared, Released
from schemas.jobs import JobRecord, JobRequest, parse_request
from schemas.subjects import is_job_id

log = logging.getLogger(__name__)

CRASH_RETRY_SECS = 1.0
"""A job whose engine crashed comes back so much later, so that other jobs go first."""


class Services:
    """What every job of this worker uses."""

    def __init__(
        self,
        settings: WorkerSettings,
        model: Model,
        store: AudioStore,
        records: JobRecords,
        events: EventLog,
        spool: Spool,
    ) -> None:
        self.settings, self.model, self.store = settings, model, store
        self.records, self.events, self.spool = records, events, spool


class JobInHand:
    """A delivered job, between `open` and `close` kept alive in the queue."""

    def __init__(self, delivery: Delivery, services: Services) -> None:
        self._delivery, self._services = delivery, services
        self.job_id = delivery.job_id
        self.cancelled = asyncio.Event()
        self._prepared: Plan | JobError | None = None
        self._folder: Path | None = None
        self._epoch: int | None = None
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        await self._stack.enter_async_context(self._delivery.kept_alive())

    async def close(self) -> None:
        await self._stack.aclose()
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def prepare(self) -> bool:
        """All that can be done without the engine; False where nothing is left to do. Raises Unavailable."""
        try:
            request = parse_request(self._delivery.body)
            if not is_job_id(self.job_id):
                raise RequestError(ErrorCode.INVALID_REQUEST, "A job id is 1 to 64 of A-Z a-z 0-9 - _.")
        except RequestError as error:
            log.warning("job %r: unusable submission, discarded: %s", self.job_id, error.detail)
            await self._delivery.discard()
            return False
        record = await self._services.records.get(self.job_id)
        if record is not None and has_ended(record):
            await self._finish(record)
            return False
        try:
            self._prepared = await self._prepare(request)
        except BrokerError:
            raise
        except Exception as error:  # a poison job must not take the worker down, again and again
            log.exception("job %s: preparing it failed", self.job_id)
            message = f"Preparing the audio failed unexpectedly: {type(error).__name__}: {error}."
            self._prepared = JobError(code=ErrorCode.INTERNAL, message=message)
        return True

    async def _prepare(self, request: JobRequest) -> Plan | JobError:
        services = self._services
        self._folder = await asyncio.to_thread(services.spool.folder, self.job_id)
        return await prepare(services.store, services.settings, self.job_id, request, self._folder)

    async def run(self) -> None:
        """Claim the job and bring it to an end, whichever. Raises Unavailable."""
        try:
            record = await self._change(
                Claimed(at=datetime.now(UTC), worker_id=self._services.settings.name())
            )
            self._epoch = record.epoch
            await self._services.events.append(
                Started(
                    job_id=self.job_id,
                    at=datetime.now(UTC),
                    worker_id=record.worker_id or "",
                    attempt=record.attempts,
                )
            )
            if error := await self._attempt(record):
                await self._finish(
                    await self._change(Failed(at=datetime.now(UTC), epoch=record.epoch, error=error))
                )
            else:
                await self._finish(await self._change(Completed(at=datetime.now(UTC), epoch=record.epoch)))
        except EngineFailure as failure:
            log.warning("job %s: %s", self.job_id, failure)
            await self.put_back()
        except (IllegalChange, Conflict, JobCancelled) as why:
            await self._leave(why)

    async def put_back(self) -> None:
        """After trouble of our own. Each new claim is an attempt, so this ends. Raises Unavailable."""
        await self._delivery.put_back(CRASH_RETRY_SECS)

    async def release(self) -> None:
        """The worker is stopping: give the job back. It resumes at its first uncommitted stretch."""
        if self._epoch is not None:
            try:
                await self._change(Released(at=datetime.now(UTC), epoch=self._epoch))
            except (IllegalChange, Conflict) as why:
                await self._leave(why)
                return
        await self._delivery.put_back()

    async def _attempt(self, record: JobRecord) -> JobError | None:
        """Why the job failed for good, or None when it is transcribed."""
        settings = self._services.settings
        if isinstance(self._prepared, JobError):
            return self._prepared
        if self._prepared is None:
            raise RuntimeError("prepare() comes first")
        if record.attempts > settings.job_max_attempts:
            message = f"The engine or its worker died {record.attempts - 1} times in a row on this job."
            return JobError(code=ErrorCode.ENGINE_CRASHED, message=message)
        plan = self._prepared
        prepared = Prepared(
            at=datetime.now(UTC),
            epoch=record.epoch,
            duration_secs=plan.duration_secs,
            stretches=len(plan.stretches),
        )
        record = await self._change(prepared)
        if not plan.stretches:
            return None  # nobody speaks: no model is needed for that
        services = self._services
        transcription = Transcription(
            record, plan, services.records, services.events, self.cancelled, settings.abort_grace_secs
        )
        try:
            async with services.model.engine() as engine:
                await transcription.run(engine)
        except ModelUnavailable as error:
            return JobError(code=ErrorCode.MODEL_UNAVAILABLE, message=str(error))
        except EngineRefused as error:
            return JobError(
                code=ErrorCode.TRANSCRIPTION_FAILED, message=f"whisper.cpp refused the audio: {error}."
            )
        except EngineFailure as failure:
            if record.attempts < settings.job_max_attempts:
                raise
            last_words = " | ".join(failure.stderr[-5:])
            message = (
                f"The engine crashed on each of {record.attempts} attempts: {failure.detail}. {last_words}"
            )
            return JobError(code=ErrorCode.ENGINE_CRASHED, message=message.strip())
        return None

    async def _change(self, change: Change) -> JobRecord:
        return await self._services.records.change(self.job_id, change)

    async def _finish(self, record: JobRecord) -> None:
        """Everything that follows an end. Safe to repeat: a crash in between brings the job here again."""
        await self._services.events.append_terminal(record, record.completed_at or datetime.now(UTC))
        await self._services.store.delete(record.request.audio or self.job_id)
        await self._delivery.ack()
        log.info("job %s: %s", self.job_id, record.status)

    async def _leave(self, why: Exception) -> None:
        """The job is not ours any more: it has ended, or another worker has it and will end it."""
        record = await self._services.records.get(self.job_id)
        if record is not None and has_ended(record):
            await self._finish(record)
        else:
            log.warning("job %s: left to its new owner (%s)", self.job_id, why)
