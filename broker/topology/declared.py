"""Streams, consumers and buckets: declared here, created at start by whichever process comes first.

What is there already belongs to the operator (docs/adr/0015): it is never changed by a process that starts, only compared, and
`whisper-jetstream topology apply` is the one thing that changes it.
"""

import logging
from typing import TypeVar

import msgspec
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from broker.connection import BrokerSettings
from broker.topology import server as topology_server
from broker.topology.diff import Difference, differences, in_one_line, seconds
from schemas import subjects
from schemas.events import event_type
from schemas.webhooks import MODEL_EVENTS, WEBHOOK_EVENTS

log = logging.getLogger(__name__)

DUPLICATE_WINDOW_SECS = 120.0
DEAD_LETTERS = 100_000
"""The oldest go beyond that: somebody may send nonsense without end."""
WEBHOOK_ACK_WAIT_SECS = 15.0
"""How long a gateway may take for one event before another does it again; it says that it lives where it takes longer."""
WORKER_TTL_SECS = 10.0
"""A worker's status expires so long after its last sign of life."""
OBJECT_STREAM = "OBJ_{}"
"""Name of the stream behind an object bucket (NATS ADR-20)."""
AUDIO_STREAM = OBJECT_STREAM.format(subjects.AUDIO_BUCKET)

Settings = TypeVar("Settings", bound=BrokerSettings)


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
            description="Webhook deliveries, each until it has succeeded or is given up; a queue per URL, without a consumer",
            subjects=[subjects.ALL_WEBHOOKS],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            num_replicas=settings.nats_replicas,
            max_age=settings.job_retention_secs,
            duplicate_window=min(DUPLICATE_WINDOW_SECS, settings.job_retention_secs),
            allow_direct=True,
            # nats-server tells a gateway of each once it is stored; the deliveries themselves are read one by one.
            republish=RePublish(
                src=subjects.ALL_WEBHOOKS,
                dest=subjects.webhook_waiting("{{wildcard(1)}}"),
                headers_only=True,
            ),
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


def buckets(settings: BrokerSettings) -> list[StreamConfig]:
    """Buckets are streams with a layout that NATS's ADR-8 (key-value) and ADR-20 (objects) prescribe."""
    kept = settings.job_retention_secs
    return [
        _key_values(subjects.RECORDS_BUCKET, settings, kept),
        _key_values(subjects.IDEMPOTENCY_BUCKET, settings, kept),
        _key_values(subjects.WORKERS_BUCKET, settings, WORKER_TTL_SECS),
        _key_values(subjects.WEBHOOK_URLS_BUCKET, settings, None),
        _key_values(subjects.WEBHOOK_QUEUES_BUCKET, settings, kept),
        _objects(subjects.RESULTS_BUCKET, settings, kept, None),
        _objects(subjects.AUDIO_BUCKET, settings, None, settings.audio_max_bytes or None),
    ]


def _key_values(bucket: str, settings: BrokerSettings, ttl: float | None) -> StreamConfig:
    """On disk: a bucket in memory is gone after a restart of the server, and nobody would make it again."""
    return StreamConfig(
        name=subjects.kv_stream(bucket),
        subjects=[subjects.kv_key(bucket, ">")],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=settings.nats_replicas,
        max_age=ttl,
        max_msgs_per_subject=1,
        discard=DiscardPolicy.NEW,
        duplicate_window=min(DUPLICATE_WINDOW_SECS, ttl or DUPLICATE_WINDOW_SECS),
        deny_delete=True,
        allow_rollup_hdrs=True,
        allow_direct=True,
        allow_msg_ttl=True,
    )


def _objects(bucket: str, settings: BrokerSettings, ttl: float | None, max_bytes: int | None) -> StreamConfig:
    """A full bucket refuses what comes (discard new): nothing that is stored goes to make room."""
    return StreamConfig(
        name=OBJECT_STREAM.format(bucket),
        subjects=[f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=settings.nats_replicas,
        max_age=ttl,
        max_bytes=max_bytes,
        discard=DiscardPolicy.NEW,
        duplicate_window=min(DUPLICATE_WINDOW_SECS, ttl or DUPLICATE_WINDOW_SECS),
        allow_rollup_hdrs=True,
        allow_direct=True,
    )


def takes_share(config: StreamConfig) -> bool:
    """Whether its limit is not a number of bytes, but a share of the server's store."""
    return config.name == AUDIO_STREAM and config.max_bytes is None


def consumers(settings: BrokerSettings) -> dict[str, ConsumerConfig]:
    """By the name of the stream that they read; no stream has two."""
    return {
        subjects.JOBS_STREAM: gpu_worker_consumer(settings),
        subjects.EVENTS_STREAM: webhook_events_consumer(settings),
    }


async def ensure(js: JetStreamContext, settings: Settings) -> Settings:
    """Create what is missing and change nothing; the settings as they hold on this server.

    Safe to run by any number of processes at once, in any order. What is there with other settings is kept, with one warning.
    Raises Refused with a sentence for whoever runs the server, Unavailable.
    """
    found = await compare(js, settings, create=True)
    if found:
        log.warning("%s", in_one_line(found))
    for difference in found:
        if (difference.name, difference.field) == (
            f"{subjects.JOBS_STREAM} {subjects.GPU_WORKER_CONSUMER}",
            "ack_wait",
        ):
            # A worker that shows signs of life by another deadline than the server's would lose its jobs.
            settings = msgspec.structs.replace(settings, job_ack_wait_secs=seconds(difference.present))
    return settings


async def compare(js: JetStreamContext, settings: BrokerSettings, create: bool = False) -> list[Difference]:
    """What is there differently from what `settings` ask for. With `create` what is missing is made, else it is told as missing.

    Raises Refused, Unavailable.
    """
    found: list[Difference] = []
    for config in [*streams(settings), *buckets(settings)]:
        share = takes_share(config)
        there = await topology_server.stream(js, config, create=create, with_share=share)
        found += differences(str(config.name), topology_server.declared(config), there, limited=share)
    for stream, consumer in consumers(settings).items():
        there = await topology_server.consumer(js, stream, consumer, create=create)
        found += differences(f"{stream} {consumer.durable_name}", topology_server.declared(consumer), there)
    return found


async def is_made(js: JetStreamContext, settings: BrokerSettings) -> bool:
    """Whether the queue of jobs is there: it is the first thing that is made. Raises Refused, Unavailable."""
    [jobs, *_] = streams(settings)
    return await topology_server.stream(js, jobs, create=False) is not None
