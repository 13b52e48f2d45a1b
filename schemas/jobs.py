"""What a job is: the request that is published, the record that is kept, and the JSON that clients see.

Unknown fields are ignored, new fields have defaults, and no field changes its type, so that gateways and workers of neighbouring
versions understand each other.
"""

from datetime import datetime
from typing import Annotated

import msgspec

from schemas.enums import Asked, Told
from schemas.errors import JobError
from schemas.languages import AUTO
from schemas.limits import Count, Label, Name, Percent, Seconds, Text, Token, Url
from schemas.options import Task, TranscribeOptions
from schemas.recordings import (
    Source,
    Warnings,
)

VERSION = 1
"""Version of the messages, in their field `v`. It changes only with a change that older processes cannot ignore."""
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment with its time zone; RFC 3339 in JSON."""
MAX_WORDS = 10_000
"""Limit of the words of one segment. whisper has at most 224 tokens for one."""
MAX_TOKENS = 10_000
"""Limit of the tokens of one segment."""
MAX_WEBHOOK_EVENTS = 16
"""Limit of the list of events: more than there are, for later versions."""


class JobStatus(Told):
    """Where a job is in its life. schemas/job_lifecycle.py has the transitions."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """A status of a later version. Such a job is neither running nor ended, and nothing may be done to it."""


class WebhookEvent(Asked):
    """What the webhook of a job can be told of; the `type` of the body."""

    STARTED = "started"
    PROGRESS = "progress"
    """Once a second at the most."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


DEFAULT_WEBHOOK_EVENTS = (WebhookEvent.COMPLETED, WebhookEvent.FAILED, WebhookEvent.CANCELLED)


class JobRequest(msgspec.Struct, kw_only=True, frozen=True):
    """The body of a message on `whisper.jobs.submit.<job_id>`: this one publish is the submission."""

    v: int = VERSION
    audio: Name | None = None
    """Name of the object in the bucket WHISPER_AUDIO; default is the job id."""
    filename: Name | None = None
    options: TranscribeOptions = TranscribeOptions()
    webhook_url: Url | None = None
    webhook_id: Token | None = None
    """Id of the registered URL, where user and password were taken out of `webhook_url` because others read this message."""
    webhook_events: Annotated[tuple[WebhookEvent, ...], msgspec.Meta(max_length=MAX_WEBHOOK_EVENTS)] = (
        DEFAULT_WEBHOOK_EVENTS
    )
    created_at: Timestamp | None = None
    """When it was submitted; default is the time stamp of the message."""
    upload_secs: Seconds | None = None
    """How long the gateway took to receive and store the audio."""


class Word(msgspec.Struct, kw_only=True, frozen=True):
    """One word. Times are seconds from the start of the file."""

    start: Seconds
    end: Seconds
    text: Text
    probability: float


class Segment(msgspec.Struct, kw_only=True, frozen=True):
    """One segment. Times are seconds from the start of the file; `text` keeps whisper's leading space."""

    index: Count
    start: Seconds
    end: Seconds
    text: Text
    words: Annotated[list[Word], msgspec.Meta(max_length=MAX_WORDS)] | None = None
    channel: Count | None = None
    """Which channel was speaking, counted from 1; with `channels=split` only."""
    language: Label | None = None
    """Its language; with `language_changes` and `channels=split` only."""
    temperature: float = 0.0
    """At which it was decoded: above the option where whisper had to try again."""
    avg_logprob: float = 0.0
    """Mean of the natural logarithms of the probabilities of its tokens."""
    compression_ratio: float = 0.0
    """Bytes of its text by bytes of its text compressed by zlib: text that repeats itself has a high one."""
    no_speech_prob: float = 0.0
    """From 0 to 1: how sure the voice detector is that nobody speaks in it."""
    tokens: Annotated[list[Count], msgspec.Meta(max_length=MAX_TOKENS)] = []
    """Ids of its text tokens in the vocabulary of the model."""


class Timings(msgspec.Struct, kw_only=True, frozen=True):
    """Where the time of a job went, in seconds. Where several workers ran it, this is about the last run."""

    upload: float | None = None
    """From the first byte of the request to the last stored chunk; None for a job that came over NATS."""
    queue: float = 0.0
    """From its submission until a worker has taken it."""
    fetch: float = 0.0
    decode: float = 0.0
    plan: float = 0.0
    """Finding speech and planning stretches."""
    load: float = 0.0
    """Waiting for the model to be loaded."""
    wait: float = 0.0
    """Waiting for the engine, which has another job, or for VRAM."""
    engine: float = 0.0
    """In the engine. The three that follow are parts of it."""
    mel: float = 0.0
    """The spectrogram, on the CPU."""
    encode: float = 0.0
    tokens: float = 0.0
    """The decoder: evaluation and choice of tokens."""
    windows: Count = 0
    """Number of windows of up to 30 s that were encoded."""
    generated: Count = 0
    """Number of text tokens."""
    fallbacks: Count = 0
    """Attempts at a window that were given up for a higher temperature."""
    publish: float = 0.0
    """Waiting for segments and commits to be stored."""


class JobRecord(msgspec.Struct, kw_only=True, frozen=True):
    """The value of a job's key in WHISPER_RECORDS. Its segments are in the event log, and not here."""

    v: int = VERSION
    id: Token
    status: JobStatus
    request: JobRequest
    created_at: Timestamp
    started_at: Timestamp | None = None
    completed_at: Timestamp | None = None
    worker_id: Label | None = None
    epoch: Count = 0
    """Grows with each claim by a worker. Writes of an older claim are refused."""
    attempts: Count = 0
    """Number of claims since the last progress, the present one included, without released ones."""
    claims: tuple[Token, ...] = ()
    """Ids of these claims, oldest first. A claim whose worker turns out to be alive is taken out."""
    preparations: Count = 0
    """Number of worker processes in a row that have begun to prepare it and were never heard of again."""
    prepared_by: Label | None = None
    """The last of these processes."""
    committed: Count = 0
    """Number of stretches that are transcribed and published."""
    stretches: Count | None = None
    """Number of stretches in the plan."""
    progress: Percent = 0
    """Percent of the duration of the audio."""
    duration_secs: Seconds | None = None
    """Length of the audio as its container says."""
    source: Source | None = None
    warnings: Warnings = ()
    language: Label | None = None
    """Code of the language that was found or asked for; None until it is known, and where nothing was said."""
    language_probability: float | None = None
    error: JobError | None = None
    timings: Timings | None = None


class Job(msgspec.Struct, kw_only=True, frozen=True):
    """A job as HTTP clients and webhooks see it."""

    id: str
    status: JobStatus
    language: str | None
    language_probability: float | None
    task: Task
    options: TranscribeOptions
    filename: str | None
    duration_secs: float | None
    source: Source | None = None
    """Known once a worker has opened the file."""
    warnings: Warnings = ()
    progress: int
    segments: list[Segment]
    error: JobError | None
    queue_position: int | None = None
    """1 for the job that runs next; None for a job that is not queued."""
    eta: Timestamp | None = None
    """When a queued job will have ended, by the speed of the last jobs; None where nothing is measured yet."""
    created_at: Timestamp
    started_at: Timestamp | None
    completed_at: Timestamp | None
    timings: Timings | None = None
    """Present once it is done."""


class JobAccepted(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to POST /jobs."""

    job_id: str


class JobList(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to GET /jobs: newest first, without segments."""

    jobs: list[Job]
    next_cursor: str | None = None
    """The `cursor` of the next page; None on the last page."""


class JobReply(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to `whisper.jobs.get.<id>`, `.cancel.<id>`."""

    v: int = VERSION
    job: Job
    result: str | None = None
    """Where the job is too large for a message, the object in WHISPER_RESULTS that has it; `job` has no segments then."""


def to_job(
    record: JobRecord,
    segments: list[Segment],
    progress: int = 0,
    *,
    queue_position: int | None = None,
    eta: Timestamp | None = None,
) -> Job:
    """Return what clients see of a record and its segments. `progress`, in percent, may be ahead of the record."""
    options = record.request.options
    return Job(
        id=record.id,
        status=record.status,
        language=record.language or (None if options.language == AUTO else options.language),
        language_probability=record.language_probability,
        task=options.task,
        options=options,
        filename=record.request.filename,
        duration_secs=record.duration_secs,
        source=record.source,
        warnings=record.warnings,
        progress=max(record.progress, progress),
        segments=segments,
        error=record.error,
        queue_position=queue_position,
        eta=eta,
        created_at=record.created_at,
        started_at=record.started_at,
        completed_at=record.completed_at,
        timings=record.timings,
    )
