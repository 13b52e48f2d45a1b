"""Everything that the gateway's handlers and background tasks work with, put together in one place."""

import uuid

import msgspec
from nats.aio.client import Client
from nats.js import JetStreamContext

from broker.audio_use import AudioUse
from broker.dead_letters import DeadLetters
from broker.event_log import EventLog
from broker.idempotency import IdempotencyKeys
from broker.job_records import JobRecords
from broker.object_store import ObjectStore
from broker.rescue import Rescue
from broker.webhook_queues import WebhookQueues
from broker.webhooks import WebhookDeliveries, WebhookUrls
from broker.work_queue import WorkQueue
from broker.worker_status import WorkerStatuses
from gateway.operations.jobs import JobService
from gateway.settings import GatewaySettings
from gateway.streaming.fanout import Fanout
from gateway.streaming.job_streams import JobStreams
from gateway.sweep import Sweep
from gateway.webhooks.events import EventTurner
from gateway.webhooks.guard import Guard
from gateway.webhooks.posting import Poster
from gateway.webhooks.sender import Sender
from gateway.webhooks.turn import Means
from schemas.subjects import AUDIO_BUCKET, RESULTS_BUCKET


class Services(msgspec.Struct, kw_only=True, frozen=True):
    settings: GatewaySettings
    client: Client
    audio: ObjectStore
    queue: WorkQueue
    events: EventLog
    statuses: WorkerStatuses
    keys: IdempotencyKeys
    dead: DeadLetters
    webhook_urls: WebhookUrls
    webhook_guard: Guard
    fanout: Fanout
    jobs: JobService
    streams: JobStreams
    sender: Sender
    sweep: Sweep
    results: ObjectStore


async def open_services(settings: GatewaySettings, client: Client, js: JetStreamContext) -> Services:
    """Raises Unavailable."""
    audio, results = ObjectStore(js, AUDIO_BUCKET), ObjectStore(js, RESULTS_BUCKET)
    events, dead, records = EventLog(js), DeadLetters(js), await JobRecords.open(js)
    statuses, urls = await WorkerStatuses.open(js), await WebhookUrls.open(js)
    use = AudioUse(js, records, audio)
    jobs = JobService(records, events, use, results, statuses, settings.audio_retention_secs)
    fanout, guard = Fanout(events, settings.sse_buffer), Guard(settings.networks())
    turner = EventTurner(urls, WebhookDeliveries(js), records, dead, guard, settings.webhook_failing_secs)
    means = Means(
        queues=await WebhookQueues.open(js, owner=uuid.uuid4().hex),
        urls=urls,
        dead=dead,
        jobs=jobs,
        poster=Poster(guard, settings.secrets()),
        backoff_secs=settings.backoff(),
    )
    return Services(
        settings=settings,
        client=client,
        audio=audio,
        results=results,
        queue=WorkQueue(js, settings),
        events=events,
        statuses=statuses,
        keys=await IdempotencyKeys.open(js),
        dead=dead,
        webhook_urls=urls,
        webhook_guard=guard,
        fanout=fanout,
        jobs=jobs,
        streams=JobStreams(jobs, events, fanout, settings.sse_heartbeat_secs),
        sender=Sender(turner, means),
        sweep=Sweep(
            audio,
            results,
            records,
            Rescue(js, dead),
            settings.audio_retention_secs,
            settings.sweep_interval_secs,
        ),
    )
