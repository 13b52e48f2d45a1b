"""The declarations of all streams, consumers and buckets. Pure."""

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

from broker.settings import BrokerSettings
from schemas import subjects
from schemas.events import event_type
from schemas.webhooks import MODEL_EVENTS, WEBHOOK_EVENTS

DUPLICATE_WINDOW_SECS = 120.0
"""How long nats-server remembers message ids, so that a repeated publish is stored once. It is the server's default."""
DEAD_LETTERS = 100_000
"""How many dead letters are kept, the newest ones: somebody may send nonsense without end."""
WEBHOOK_ACK_WAIT_SECS = 15.0
"""Ack deadline of an event for webhooks. A gateway that needs longer moves it with a keep-alive."""
WORKER_TTL_SECS = 10.0
"""How long after its last write the status of a worker expires."""
AUDIO_STREAM = subjects.object_stream(subjects.AUDIO_BUCKET)


def streams(settings: BrokerSettings) -> list[StreamConfig]:
    """Return the streams, the queue of jobs first."""
    return [
        StreamConfig(
            name=subjects.JOBS_STREAM,
            description="Submitted jobs, each until it has ended",
            subjects=[subjects.ALL_SUBMITS],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            num_replicas=settings.nats_replicas,
            duplicate_window=DUPLICATE_WINDOW_SECS,
            # A second submission of a job that is still queued is refused, and does not replace the first.
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
            # With this nats-server sends a gateway a hint for each stored delivery. The deliveries are read one by one.
            republish=RePublish(
                src=subjects.ALL_WEBHOOKS,
                dest=subjects.webhook_waiting("{{wildcard(1)}}"),
                headers_only=True,
            ),
        ),
    ]


def gpu_worker_consumer(settings: BrokerSettings) -> ConsumerConfig:
    """Return the consumer that all workers pull jobs from."""
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
    """Return the consumer that all gateways pull events for webhooks from."""
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
    """Return the buckets, as streams with the layout of NATS ADR-8 (key-value) and ADR-20 (objects)."""
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
    """A key-value bucket on disk: one in memory is gone after a restart of the server, and nobody would create it again."""
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
    """An object bucket. A full one refuses new objects, and deletes no stored object to make room."""
    return StreamConfig(
        name=subjects.object_stream(bucket),
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
    """Whether the limit of a stream is a share of the server's store and not a number of bytes."""
    return config.name == AUDIO_STREAM and config.max_bytes is None


def consumers(settings: BrokerSettings) -> dict[str, ConsumerConfig]:
    """Return the consumers by the names of their streams. No stream has two."""
    return {
        subjects.JOBS_STREAM: gpu_worker_consumer(settings),
        subjects.EVENTS_STREAM: webhook_events_consumer(settings),
    }
