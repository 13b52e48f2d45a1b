"""Puts one gateway together: stores, operations, background tasks and routes, each with what it uses.

This is the only place that knows all of them.
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.js import JetStreamContext
from quart import Blueprint

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
from gateway.nats_door import NatsDoor
from gateway.operations.admitting import Admission
from gateway.operations.health import HealthCheck
from gateway.operations.jobs import JobOperations
from gateway.operations.model import ModelOperations
from gateway.operations.publishing import Publisher
from gateway.operations.queue_view import QueueView
from gateway.operations.submission import Submission
from gateway.operations.uploading import Uploader
from gateway.operations.webhooks import WebhookOperations
from gateway.outbound.guard import Guard
from gateway.routes import docs, health, jobs, model, webhooks
from gateway.settings import GatewaySettings
from gateway.streaming.fanout import Fanout
from gateway.streaming.job_streams import JobStreams
from gateway.streaming.model_stream import ModelStream
from gateway.sweep import Sweep
from gateway.webhooks.planner import DeliveryPlanner
from gateway.webhooks.posting import Poster
from gateway.webhooks.sender import Sender
from gateway.webhooks.turn import Means
from schemas.subjects import AUDIO_BUCKET, RESULTS_BUCKET


class Gateway:
    """One gateway without its HTTP server: routes, and the tasks that run beside them."""

    def __init__(
        self, blueprints: list[Blueprint], fanout: Fanout, sender: Sender, sweep: Sweep, door: NatsDoor
    ) -> None:
        self.blueprints = blueprints
        self._fanout, self._sender, self._sweep, self._door = fanout, sender, sweep, door

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run everything but the HTTP server while the block runs. Raises Unavailable."""
        async with (
            self._fanout.running(),
            self._sender.running(),
            self._sweep.running(),
            self._door.serving(),
        ):
            yield

    def end_streams(self) -> None:
        """End all event streams, and refuse new ones: the gateway stops, and its clients resume elsewhere."""
        self._fanout.end()


class Stores:
    """What the gateway reads and writes in JetStream."""

    def __init__(self, js: JetStreamContext, records: JobRecords) -> None:
        self.audio, self.results = ObjectStore(js, AUDIO_BUCKET), ObjectStore(js, RESULTS_BUCKET)
        self.events, self.dead, self.records = EventLog(js), DeadLetters(js), records
        self.audio_use = AudioUse(js, records, self.audio)


async def assemble(settings: GatewaySettings, client: Client, js: JetStreamContext) -> Gateway:
    """Make a gateway on a connection to nats-server. Raises Unavailable."""
    stores = Stores(js, await JobRecords.open(js))
    statuses, urls = await WorkerStatuses.open(js), await WebhookUrls.open(js)
    operations = job_operations(settings, stores, statuses)
    models = ModelOperations(client, statuses)
    fanout, guard = Fanout(stores.events, settings.sse_buffer), Guard(settings.networks())
    submission = Submission(
        Admission(client, statuses, settings.jobs_when_unloaded),
        Uploader(stores.audio, guard, settings.max_upload_bytes),
        Publisher(WorkQueue(js, settings), urls, stores.audio),
        await IdempotencyKeys.open(js),
        stores.records,
    )
    heartbeat_secs = settings.sse_heartbeat_secs
    check = HealthCheck(client, statuses, stores.records, stores.dead, stores.audio)
    blueprints = [
        webhooks.blueprint(WebhookOperations(urls)),
        jobs.blueprint(submission, operations, JobStreams(operations, stores.events, fanout, heartbeat_secs)),
        model.blueprint(models, ModelStream(models, stores.events, fanout, heartbeat_secs)),
        health.blueprint(check, settings.instance_id),
        docs.blueprint(),
    ]
    planner = DeliveryPlanner(
        urls, WebhookDeliveries(js), stores.records, stores.dead, guard, settings.webhook_failing_secs
    )
    means = Means(
        queues=await WebhookQueues.open(js, owner=uuid.uuid4().hex),
        urls=urls,
        dead=stores.dead,
        jobs=operations,
        poster=Poster(guard, settings.secrets()),
        backoff_secs=settings.backoff(),
    )
    return Gateway(
        blueprints,
        fanout,
        Sender(planner, means),
        sweep(settings, stores, Rescue(js, stores.dead)),
        NatsDoor(client, operations, stores.results),
    )


def job_operations(settings: GatewaySettings, stores: Stores, statuses: WorkerStatuses) -> JobOperations:
    """Return the operations on submitted jobs."""
    return JobOperations(
        stores.records,
        stores.events,
        stores.audio_use,
        stores.results,
        QueueView(stores.records, statuses),
        settings.audio_retention_secs,
    )


def sweep(settings: GatewaySettings, stores: Stores, rescue: Rescue) -> Sweep:
    """Return the task that deletes what nobody needs any more."""
    return Sweep(
        stores.audio,
        stores.results,
        stores.records,
        rescue,
        settings.audio_retention_secs,
        settings.sweep_interval_secs,
    )
