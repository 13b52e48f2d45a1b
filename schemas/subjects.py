"""Every subject, stream, consumer, bucket and header name, in one place. Imports nothing that can act.

A job id is one subject token and one key-value key, so it is limited to letters, digits, `-` and `_`.
"""

import re
from typing import Final

from schemas.limits import ID_PATTERN

JOBS_STREAM: Final = "WHISPER_JOBS"
EVENTS_STREAM: Final = "WHISPER_EVENTS"
GPU_WORKER_CONSUMER: Final = "gpu-worker"
WEBHOOKS_STREAM: Final = "WHISPER_WEBHOOKS"
DEAD_STREAM: Final = "WHISPER_DEAD"
WEBHOOK_EVENTS_CONSUMER: Final = "webhook-events"

AUDIO_BUCKET: Final = "WHISPER_AUDIO"
RESULTS_BUCKET: Final = "WHISPER_RESULTS"
RECORDS_BUCKET: Final = "WHISPER_RECORDS"
WORKERS_BUCKET: Final = "WHISPER_WORKERS"
WEBHOOK_URLS_BUCKET: Final = "WHISPER_WEBHOOK_URLS"
WEBHOOK_QUEUES_BUCKET: Final = "WHISPER_WEBHOOK_QUEUES"
IDEMPOTENCY_BUCKET: Final = "WHISPER_IDEMPOTENCY"

JOBS_PREFIX: Final = "whisper.jobs"
SUBMIT_PREFIX: Final = f"{JOBS_PREFIX}.submit"
EVENTS_PREFIX: Final = "whisper.events.job"
MODEL_EVENTS_PREFIX: Final = "whisper.events.model"
MODEL_PREFIX: Final = "whisper.model"
WEBHOOKS_PREFIX: Final = "whisper.webhooks"
WEBHOOK_WAITING_PREFIX: Final = "whisper.webhook-waiting"
"""Prefix of the hints: nats-server sends one of the gateways a hint for each stored delivery (a republish)."""
DEAD_PREFIX: Final = "whisper.dead"

ALL_SUBMITS: Final = f"{SUBMIT_PREFIX}.*"
ALL_EVENTS: Final = "whisper.events.>"
ALL_WEBHOOKS: Final = f"{WEBHOOKS_PREFIX}.*"
ALL_WEBHOOK_WAITING: Final = f"{WEBHOOK_WAITING_PREFIX}.*"
ALL_MODEL_EVENTS: Final = f"{MODEL_EVENTS_PREFIX}.*.*"
ALL_DEAD: Final = f"{DEAD_PREFIX}.>"
RESCUED_PREFIX: Final = f"{DEAD_PREFIX}.rescued"
ALL_RESCUED: Final = f"{RESCUED_PREFIX}.*"

REASON_HEADER: Final = "Whisper-Reason"
"""Header of a dead letter: why it is one, as a sentence."""
ORIGIN_HEADER: Final = "Whisper-Subject"
"""Header of a dead letter: the subject on which it was, and to which a requeue returns it."""

QUEUED: Final = "queued"
"""Type of the event that nats-server makes of a submission (a republish). Its body is the JobRequest."""


def kv_stream(bucket: str) -> str:
    """Return the stream behind a key-value bucket (NATS ADR-8)."""
    return f"KV_{bucket}"


def object_stream(bucket: str) -> str:
    """Return the stream behind an object bucket (NATS ADR-20)."""
    return f"OBJ_{bucket}"


def kv_key(bucket: str, key: str) -> str:
    """Return the subject of a key in a key-value bucket; `>` and `*` are wildcards (NATS ADR-8)."""
    return f"$KV.{bucket}.{key}"


_JOB_ID = re.compile(ID_PATTERN)


def is_job_id(text: str) -> bool:
    """Whether a text can be a job id: 1 to 64 of A-Z a-z 0-9 - _. Ids of workers and webhooks have the same letters."""
    return _JOB_ID.fullmatch(text) is not None


def submit(job_id: str) -> str:
    """Return the subject on which a job is submitted."""
    return f"{SUBMIT_PREFIX}.{job_id}"


def job_control(action: str, job_id: str | None = None) -> str:
    """Return the subject of a request about jobs: `list`, or `get`, `cancel`, `erase` with a job id (`*` for any job)."""
    return f"{JOBS_PREFIX}.{action}" if job_id is None else f"{JOBS_PREFIX}.{action}.{job_id}"


def event(job_id: str, event_type: str) -> str:
    """Return the subject of a job's event."""
    return f"{EVENTS_PREFIX}.{job_id}.{event_type}"


def all_events_of(job_id: str) -> str:
    """Return the pattern of all events of a job."""
    return f"{EVENTS_PREFIX}.{job_id}.*"


def last_token(subject: str) -> str:
    """Return the last token: the job id of a submission or request, the type of an event."""
    return subject.rsplit(".", 1)[-1]


def model_event(worker_id: str, event_type: str) -> str:
    """Return the subject of an event of a worker's model."""
    return f"{MODEL_EVENTS_PREFIX}.{worker_id}.{event_type}"


def model_control(action: str, worker_id: str | None = None) -> str:
    """Return the subject of a request about a model: `status`, `load`, `unload`. Without a worker id any worker answers."""
    return f"{MODEL_PREFIX}.{action}" if worker_id is None else f"{MODEL_PREFIX}.{action}.{worker_id}"


def webhook(webhook_id: str) -> str:
    """Return the subject on which deliveries to a registered URL are stored."""
    return f"{WEBHOOKS_PREFIX}.{webhook_id}"


def webhook_waiting(webhook_id: str) -> str:
    """Return the subject of the hint that a delivery waits for this URL."""
    return f"{WEBHOOK_WAITING_PREFIX}.{webhook_id}"


def job_of(event_subject: str) -> str:
    """Return the job id of the subject of a job's event."""
    return event_subject.rsplit(".", 2)[-2]


def dead(subject: str) -> str:
    """Return the subject of a message's dead letter: `whisper.dead.submit.<id>` for `whisper.jobs.submit.<id>`."""
    kind, token = subject.rsplit(".", 2)[-2:]
    return f"{DEAD_PREFIX}.{kind}.{token}"


def rescued(subject: str) -> str:
    """Return the subject on which a message is kept while it is put back into its queue (broker/rescue.py)."""
    return f"{RESCUED_PREFIX}.{last_token(subject)}"


def queue_of(subject: str) -> str | None:
    """Return the stream of the queue that takes messages on a subject; None for a subject of another kind."""
    head, _, token = subject.rpartition(".")
    if not is_job_id(token):
        return None
    return {SUBMIT_PREFIX: JOBS_STREAM, WEBHOOKS_PREFIX: WEBHOOKS_STREAM}.get(head)


def topic(subject: str) -> str:
    """Return the topic of an event: one for each job, and one for the models of all workers."""
    head, _, _ = subject.rpartition(".")
    return MODEL_EVENTS_PREFIX if head.startswith(f"{MODEL_EVENTS_PREFIX}.") else head


def job_topic(job_id: str) -> str:
    """Return the topic of a job's events."""
    return f"{EVENTS_PREFIX}.{job_id}"
