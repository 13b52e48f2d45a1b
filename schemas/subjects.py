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
"""Where nats-server tells one of the gateways that a delivery has been stored (a republish)."""
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
"""On a dead letter: why it is one, in words."""
ORIGIN_HEADER: Final = "Whisper-Subject"
"""On a dead letter: the subject that it was on, and comes back to when it is requeued."""

QUEUED: Final = "queued"
"""The event that nats-server itself makes of a submission (republish): its body is the job request."""


def kv_stream(bucket: str) -> str:
    """Return the stream behind a key-value bucket (NATS ADR-8)."""
    return f"KV_{bucket}"


def kv_key(bucket: str, key: str) -> str:
    """Return the subject of a key in a key-value bucket; `>` and `*` are wildcards (NATS ADR-8)."""
    return f"$KV.{bucket}.{key}"


_JOB_ID = re.compile(ID_PATTERN)


def is_job_id(text: str) -> bool:
    """True where `text` can be a job id: 1 to 64 of A-Z a-z 0-9 - _."""
    return _JOB_ID.fullmatch(text) is not None


def submit(job_id: str) -> str:
    return f"{SUBMIT_PREFIX}.{job_id}"


def job_control(action: str, job_id: str | None = None) -> str:
    """Where gateways answer over NATS: `action` is list, or get, cancel and erase with a job id (`*`: of any job)."""
    return f"{JOBS_PREFIX}.{action}" if job_id is None else f"{JOBS_PREFIX}.{action}.{job_id}"


def event(job_id: str, event_type: str) -> str:
    return f"{EVENTS_PREFIX}.{job_id}.{event_type}"


def all_events_of(job_id: str) -> str:
    return f"{EVENTS_PREFIX}.{job_id}.*"


def last_token(subject: str) -> str:
    """The job id of a submit or control subject, the type of an event subject."""
    return subject.rsplit(".", 1)[-1]


def model_event(worker_id: str, event_type: str) -> str:
    return f"{MODEL_EVENTS_PREFIX}.{worker_id}.{event_type}"


def model_control(action: str, worker_id: str | None = None) -> str:
    """`action` is status, load or unload. Without a worker's id any one worker answers."""
    return f"{MODEL_PREFIX}.{action}" if worker_id is None else f"{MODEL_PREFIX}.{action}.{worker_id}"


def webhook(webhook_id: str) -> str:
    """Where deliveries to one registered URL wait."""
    return f"{WEBHOOKS_PREFIX}.{webhook_id}"


def webhook_waiting(webhook_id: str) -> str:
    """Where it is told that something waits for this URL."""
    return f"{WEBHOOK_WAITING_PREFIX}.{webhook_id}"


def job_of(event_subject: str) -> str:
    """The job id of a job's event subject."""
    return event_subject.rsplit(".", 2)[-2]


def dead(subject: str) -> str:
    """Where a message that nobody can use is kept: `whisper.jobs.submit.<id>` as `whisper.dead.submit.<id>`."""
    kind, token = subject.rsplit(".", 2)[-2:]
    return f"{DEAD_PREFIX}.{kind}.{token}"


def rescued(subject: str) -> str:
    """Where a message is kept for the moment in which it is put back into its queue (broker/rescue.py)."""
    return f"{RESCUED_PREFIX}.{last_token(subject)}"


def queue_of(subject: str) -> str | None:
    """The stream of the work queue that takes messages on a subject; None for a subject of any other kind."""
    head, _, token = subject.rpartition(".")
    if not is_job_id(token):  # a webhook's id has the same letters
        return None
    return {SUBMIT_PREFIX: JOBS_STREAM, WEBHOOKS_PREFIX: WEBHOOKS_STREAM}.get(head)


def topic(subject: str) -> str:
    """What an event is about: one topic for each job, one for the models of all workers."""
    head, _, _ = subject.rpartition(".")
    return MODEL_EVENTS_PREFIX if head.startswith(f"{MODEL_EVENTS_PREFIX}.") else head


def job_topic(job_id: str) -> str:
    return f"{EVENTS_PREFIX}.{job_id}"
