"""Every subject, stream, consumer, bucket and header name, in one place. Imports nothing that can act.

A job id is one subject token and one key-value key, so it is limited to letters, digits, `-` and `_`.
"""

import re
from typing import Final

JOBS_STREAM: Final = "WHISPER_JOBS"
EVENTS_STREAM: Final = "WHISPER_EVENTS"
GPU_WORKER_CONSUMER: Final = "gpu-worker"

AUDIO_BUCKET: Final = "WHISPER_AUDIO"
RECORDS_BUCKET: Final = "WHISPER_RECORDS"
WORKERS_BUCKET: Final = "WHISPER_WORKERS"

SUBMIT_PREFIX: Final = "whisper.jobs.submit"
CANCEL_PREFIX: Final = "whisper.jobs.cancel"
EVENTS_PREFIX: Final = "whisper.events.job"
MODEL_PREFIX: Final = "whisper.model"

ALL_SUBMITS: Final = f"{SUBMIT_PREFIX}.*"
ALL_CANCELS: Final = f"{CANCEL_PREFIX}.*"
ALL_EVENTS: Final = "whisper.events.>"

QUEUED: Final = "queued"
"""The event that nats-server itself makes of a submission (republish): its body is the job request."""

_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_job_id(text: str) -> bool:
    """True where `text` can be a job id: 1 to 64 of A-Z a-z 0-9 - _."""
    return _JOB_ID.fullmatch(text) is not None


def submit(job_id: str) -> str:
    return f"{SUBMIT_PREFIX}.{job_id}"


def cancel(job_id: str) -> str:
    return f"{CANCEL_PREFIX}.{job_id}"


def event(job_id: str, event_type: str) -> str:
    return f"{EVENTS_PREFIX}.{job_id}.{event_type}"


def all_events_of(job_id: str) -> str:
    return f"{EVENTS_PREFIX}.{job_id}.*"


def last_token(subject: str) -> str:
    """The job id of a submit or cancel subject, the type of an event subject."""
    return subject.rsplit(".", 1)[-1]


def job_id_of_event(subject: str) -> str | None:
    """The job id in `whisper.events.job.<job_id>.<type>`; None for any other subject."""
    head, _, _ = subject.rpartition(".")
    prefix, _, job_id = head.rpartition(".")
    return job_id if prefix == EVENTS_PREFIX else None
