"""Streams, consumers and buckets: declared here, created at start by whichever side comes first."""

import asyncio
import logging

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    KeyValueConfig,
    ObjectStoreConfig,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import BadRequestError

from broker.connection import BrokerSettings, mapped_errors
from schemas import subjects
from schemas.events import event_type
from schemas.webhooks import MODEL_EVENTS, WEBHOOK_EVENTS

log = logging.getLogger(__name__)

NAME_IN_USE = 10058
"""JetStream error code: the stream exists with another configuration."""
DUPLICATE_WINDOW_SECS = 120.0
DEAD_LETTERS = 100_000
"""The oldest go beyond that: somebody may send nonsense without end."""
WEBHOOK_ACK_WAIT_SECS = 15.0
"""A try takes 10 s at the most."""
WORKER_TTL_SECS = 10.0
"""A worker's status expires so long after its last sign of life."""
KV_STREAM, OBJECT_STREAM = "KV_{}", "OBJ_{}"
KV_KEY = "$KV.{}.{}"


def streams(settings: BrokerSettings) -> list[StreamConfig]:
    return [
        StreamConfig(
            name=subjects.JOBS_STREAM,
            description="Submitted jobs, each until it has ended",
            subjects=[subjects.ALL_SUBMITS],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            num_replicas=settings.nats_replicas,
            duplicate_window=DUPLICATE_WINDOW_SECS,
            # A second submission of a job that is still here is refused, not stored in place of the first.
            max_msgs_per_subject=1,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            allow_direct=True,
            # The submission is the `queued` event: nats-server copies it, so the two can never disagree (docs/adr/0001).
            republish=RePublish(
                src=subjects.ALL_SUBMITS,
                dest=f"{subjects.EVENTS_PREFIX}.{{{{wildcard(1)}}}}.{subjects.QUEUED}",
            ),
        ),
        StreamConfig(
            name=subjects.EVENTS_STREAM,
            description="What happened to jobs and models; a job's segment events are its transcript",
            subjects=[subjects.ALL_EVENTS],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            num_replicas=settings.nats_replicas,
            max_age=settings.job_retention_secs,
            duplicate_window=min(DUPLICATE_WINDOW_SECS, settings.job_retention_secs),
            allow_direct=True,
        ),
        StreamConfig(
            name=subjects.DEAD_STREAM,
            description="Messages that nobody could use, with the reason as a header",
            subjects=[subjects.ALL_DEAD],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            num_replicas=settings.nats_replicas,
            max_age=settings.job_retention_secs,
            max_msgs=DEAD_LETTERS,
            duplicate_window=min(DUPLICATE_WINDOW_SECS, settings.job_retention_secs),
            allow_direct=True,
        ),
        StreamConfig(
            name=subjects.WEBHOOKS_STREAM,
            description="Webhook deliveries, each until it has succeeded or is given up",
            subjects=[subjects.ALL_WEBHOOKS],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            num_replicas=settings.nats_replicas,
            max_age=settings.job_retention_secs,
            duplicate_window=min(DUPLICATE_WINDOW_SECS, settings.job_retention_secs),
            allow_direct=True,
        ),
    ]


def gpu_worker_consumer(settings: BrokerSettings) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=subjects.GPU_WORKER_CONSUMER,
        description="Workers share this consumer; attempts are counted in the job record, not by the server",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=settings.job_ack_wait_secs,
        max_deliver=-1,
        max_ack_pending=1000,
        filter_subject=subjects.ALL_SUBMITS,
    )


def webhook_events_consumer(settings: BrokerSettings) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=subjects.WEBHOOK_EVENTS_CONSUMER,
        description="What becomes webhook deliveries; strictly in order, so that a URL is known before what follows it",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=WEBHOOK_ACK_WAIT_SECS,
        max_deliver=-1,
        max_ack_pending=1,
        deliver_policy=DeliverPolicy.NEW,
        filter_subjects=[
            subjects.event("*", subjects.QUEUED),
            *(subjects.event("*", event_type(kind)) for kind in WEBHOOK_EVENTS),
            *(subjects.model_event("*", kind) for kind in MODEL_EVENTS),
        ],
    )


def webhook_deliveries_consumer(settings: BrokerSettings) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=subjects.WEBHOOK_DELIVERIES_CONSUMER,
        description="Gateways share this consumer; tries are counted by the server, the schedule is theirs",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=WEBHOOK_ACK_WAIT_SECS,
        max_deliver=-1,
        max_ack_pending=10_000,
    )


async def ensure(js: JetStreamContext, settings: BrokerSettings) -> None:
    """Create or update everything. Safe to run by any number of processes at once, in any order."""
    with mapped_errors():
        async with asyncio.TaskGroup() as tasks:
            for config in streams(settings):
                tasks.create_task(_ensure_stream(js, config))
            kept = settings.job_retention_secs
            for bucket, ttl in {
                subjects.RECORDS_BUCKET: kept,
                subjects.IDEMPOTENCY_BUCKET: kept,
                subjects.WORKERS_BUCKET: WORKER_TTL_SECS,
                subjects.WEBHOOK_URLS_BUCKET: None,
            }.items():
                tasks.create_task(_ensure_bucket(js, bucket, settings, ttl))
            tasks.create_task(_ensure_objects(js, subjects.AUDIO_BUCKET, settings, None))
            tasks.create_task(_ensure_objects(js, subjects.RESULTS_BUCKET, settings, kept))
        await js.add_consumer(subjects.JOBS_STREAM, gpu_worker_consumer(settings))
        await js.add_consumer(subjects.EVENTS_STREAM, webhook_events_consumer(settings))
        await js.add_consumer(subjects.WEBHOOKS_STREAM, webhook_deliveries_consumer(settings))


async def _ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    try:
        await js.add_stream(config)
    except BadRequestError as error:
        if error.err_code != NAME_IN_USE:
            raise
        log.info("stream %s exists with other settings: updating it", config.name)
        await js.update_stream(config)


async def _ensure_bucket(
    js: JetStreamContext, bucket: str, settings: BrokerSettings, ttl: float | None
) -> None:
    """On disk: a bucket in memory is gone after a restart of the server, and nobody would make it again."""
    config = KeyValueConfig(
        bucket=bucket,
        ttl=ttl,
        storage=StorageType.FILE,
        replicas=settings.nats_replicas,
        direct=True,
        history=1,
    )
    try:
        await js.create_key_value(config)
    except BadRequestError as error:
        if error.err_code != NAME_IN_USE:
            raise
        await _follow(js, KV_STREAM.format(bucket), max_age=ttl or 0, num_replicas=settings.nats_replicas)


async def _ensure_objects(
    js: JetStreamContext, bucket: str, settings: BrokerSettings, ttl: float | None
) -> None:
    config = ObjectStoreConfig(storage=StorageType.FILE, replicas=settings.nats_replicas, ttl=ttl)
    try:
        await js.create_object_store(bucket, config)
    except BadRequestError as error:
        if error.err_code != NAME_IN_USE:
            raise
        changes = {"max_age": ttl or 0, "num_replicas": settings.nats_replicas}
        await _follow(js, OBJECT_STREAM.format(bucket), **changes)


async def _follow(js: JetStreamContext, stream: str, **changes: object) -> None:
    """Bring an existing bucket's stream to the settings of today, leaving the rest as it is."""
    log.info("bucket stream %s exists with other settings: updating it", stream)
    info = await js.stream_info(stream)
    await js.update_stream(info.config.evolve(**changes))
