"""What the gateway's handlers work with, and the operations on jobs that they share."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
from nats.aio.client import Client
from nats.js import JetStreamContext

from broker.audio_store import AudioStore
from broker.event_log import EventLog, Logged
from broker.job_records import JobRecords, has_ended
from broker.webhooks import WebhookUrls
from broker.work_queue import WorkQueue
from broker.worker_status import WorkerStatuses
from gateway import sse
from gateway.fanout import Fanout, Listener, StreamOver
from gateway.settings import GatewaySettings
from schemas import events, subjects
from schemas.errors import ErrorCode, RequestError
from schemas.job_lifecycle import Cancelled, IllegalChange
from schemas.jobs import Job, JobRecord, to_job


class Services:
    def __init__(
        self,
        settings: GatewaySettings,
        client: Client,
        js: JetStreamContext,
        records: JobRecords,
        statuses: WorkerStatuses,
        webhook_urls: WebhookUrls,
    ) -> None:
        self.settings, self.client = settings, client
        self.records, self.statuses, self.webhook_urls = records, statuses, webhook_urls
        self.audio, self.queue, self.events = AudioStore(js), WorkQueue(js, settings), EventLog(client, js)
        self.fanout = Fanout(self.events, settings.sse_buffer)

    @classmethod
    async def open(cls, settings: GatewaySettings, client: Client, js: JetStreamContext) -> "Services":
        """Raises Unavailable."""
        return cls(
            settings,
            client,
            js,
            await JobRecords.open(js),
            await WorkerStatuses.open(js),
            await WebhookUrls.open(js),
        )

    async def record(self, job_id: str) -> JobRecord:
        """Raises RequestError `not_found`, Unavailable."""
        record = await self.records.get(job_id) if subjects.is_job_id(job_id) else None
        if record is None:
            raise RequestError(ErrorCode.NOT_FOUND, f"There is no job {job_id}.")
        return record

    async def job(self, record: JobRecord) -> Job:
        """The job with its transcript so far."""
        segments, _ = await self.events.segments(record.id)
        percent = 0
        if not has_ended(record) and (last := await self.events.last(record.id, "progress")):
            progress = events.decode(last.type, last.body)
            percent = progress.percent if isinstance(progress, events.Progress) else 0
        return to_job(record, segments, percent)

    async def cancel(self, job_id: str) -> JobRecord:
        """End the job now: the record decides, the worker follows. Raises RequestError `not_found`, `job_finished`."""
        await self.record(job_id)
        try:
            record = await self.records.change(job_id, Cancelled(at=datetime.now(UTC)))
        except IllegalChange as error:
            raise RequestError(ErrorCode.JOB_FINISHED, f"The job {job_id} has already ended.") from error
        await self.events.append_terminal(record, datetime.now(UTC))
        await self.records.unqueue(job_id)
        await self.audio.delete(record.request.audio or job_id)
        await self.client.publish(subjects.cancel(job_id))
        return record

    async def stream(self, record: JobRecord, after: int) -> AsyncIterator[bytes]:
        """The job's server-sent events: what is stored behind `after`, then what happens, up to its end.

        Listening begins before replaying and the stream sequence decides, so no event is lost or told twice.
        """
        try:
            async with self.fanout.listening(subjects.job_topic(record.id)) as listener:
                async for logged in self._stored_then_live(record.id, after, listener):
                    if logged is None:
                        yield sse.HEARTBEAT
                        continue
                    if (sent := await self._render(record.id, logged)) is not None:
                        yield sent
                    if sse.is_terminal(logged.type):
                        return
        except StreamOver:
            return
        ended = await self.record(record.id)
        yield sse.frame(ended.status, {"job": await self.job(ended)}, None)

    async def _stored_then_live(
        self, job_id: str, after: int, listener: Listener
    ) -> AsyncIterator[Logged | None]:
        """None is a pause as long as a heartbeat. Ends by itself only if the job has ended and its events expired."""
        async for logged in self.events.replay(subjects.all_events_of(job_id), after):
            after = logged.seq
            yield logged
        record = await self.record(job_id)
        if has_ended(record) and not await self.events.last(job_id, record.status):
            return
        while True:
            live = await listener.next(self.settings.sse_heartbeat_secs)
            if live is None or live.seq > after:
                yield live

    async def _render(self, job_id: str, logged: Logged) -> bytes | None:
        """A terminal event carries the whole job; its record is in the event, its transcript in the log."""
        job = None
        if sse.is_terminal(logged.type):
            job = await self.job(msgspec.json.decode(logged.body, type=events.TerminalEvent).record)
        return sse.render(logged.type, logged.body, job_id, logged.seq, job)
