"""What a job is: the request that is published, the record that is kept, and the JSON that clients see.

Fields unknown to this version are ignored, new fields get defaults, no field changes its type: so gateways and workers of
neighbouring versions understand each other.
"""

from datetime import datetime
from typing import Annotated

import msgspec

from schemas.enums import Asked, Told
from schemas.errors import JobError
from schemas.languages import AUTO
from schemas.limits import MAX_PROMPT_CHARS, Count, Label, Name, Percent, Seconds, Text, Token, Url

VERSION = 1
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment with its time zone; RFC 3339 in JSON."""
MAX_BEAM_SIZE = 8
"""whisper.cpp refuses more than 8 decoders (WHISPER_MAX_DECODERS)."""
DEFAULT_BEAM_SIZE = 5
MAX_WORDS = 10_000
"""Of one segment; whisper has at most 224 tokens for one."""
MAX_WEBHOOK_EVENTS = 16
"""More than there are, for those of later versions."""


class Task(Asked):
    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


class JobStatus(Told):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """Of a later version: for this one such a job is neither running nor ended, and nothing may be done to it."""


class WebhookEvent(Asked):
    """What a job's webhook can be told of; the body's `type`."""

    STARTED = "started"
    PROGRESS = "progress"
    """Once a second at the most."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


DEFAULT_WEBHOOK_EVENTS = (WebhookEvent.COMPLETED, WebhookEvent.FAILED, WebhookEvent.CANCELLED)


class TranscribeOptions(msgspec.Struct, kw_only=True, frozen=True):
    """How to transcribe. The same names are form fields over HTTP."""

    language: Label = AUTO
    """A whisper language code (`en`, `de`, ...) or `auto`."""
    task: Task = Task.TRANSCRIBE
    """`translate` gives English."""
    vad: bool = True
    """Find speech first and skip long non-speech. False transcribes everything."""
    words: bool = False
    """Give each word its times."""
    prompt: Annotated[str, msgspec.Meta(max_length=MAX_PROMPT_CHARS)] = ""
    """Text that sets vocabulary and style, as if it had been said before."""
    beam_size: Annotated[int, msgspec.Meta(ge=1, le=MAX_BEAM_SIZE)] = DEFAULT_BEAM_SIZE
    """1 is greedy."""
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0


class JobRequest(msgspec.Struct, kw_only=True, frozen=True):
    """The body of a message on `whisper.jobs.submit.<job_id>`: this one publish is the submission."""

    v: int = VERSION
    audio: Name | None = None
    """Name of the object in the bucket WHISPER_AUDIO; the job id where it is not given."""
    filename: Name | None = None
    options: TranscribeOptions = TranscribeOptions()
    webhook_url: Url | None = None
    webhook_events: Annotated[tuple[WebhookEvent, ...], msgspec.Meta(max_length=MAX_WEBHOOK_EVENTS)] = (
        DEFAULT_WEBHOOK_EVENTS
    )
    created_at: Timestamp | None = None
    """When it was submitted; the message's own time stamp where it is not given."""
    upload_secs: Seconds | None = None
    """How long the gateway took to receive and store the audio."""


class Word(msgspec.Struct, kw_only=True, frozen=True):
    """One word; times in seconds of the whole file."""

    start: Seconds
    end: Seconds
    text: Text
    probability: float


class Segment(msgspec.Struct, kw_only=True, frozen=True):
    """One segment; times in seconds of the whole file. `text` keeps whisper's leading space."""

    index: Count
    start: Seconds
    end: Seconds
    text: Text
    words: Annotated[list[Word], msgspec.Meta(max_length=MAX_WORDS)] | None = None


class Timings(msgspec.Struct, kw_only=True, frozen=True):
    """Where a job's time went, in seconds. Of the run that brought it to its end, where there were several."""

    upload: float | None = None
    """From the first byte of the request to the last chunk stored; None for a job that came over NATS."""
    queue: float = 0.0
    """From its submission to a worker's hands."""
    fetch: float = 0.0
    decode: float = 0.0
    plan: float = 0.0
    """Finding speech and planning stretches."""
    load: float = 0.0
    """Waiting for the model to be loaded."""
    wait: float = 0.0
    """Waiting for the engine to be done with the job before, or for VRAM."""
    engine: float = 0.0
    """In whisper_full. The three that follow are parts of it."""
    mel: float = 0.0
    """The spectrogram, on the CPU."""
    encode: float = 0.0
    tokens: float = 0.0
    """The decoder: evaluating and choosing tokens."""
    publish: float = 0.0
    """Waiting for segments and commits to be stored."""


class JobRecord(msgspec.Struct, kw_only=True, frozen=True):
    """What the bucket WHISPER_RECORDS keeps of a job. Its segments are in the event log, not here."""

    v: int = VERSION
    id: Token
    status: JobStatus
    request: JobRequest
    created_at: Timestamp
    started_at: Timestamp | None = None
    completed_at: Timestamp | None = None
    worker_id: Label | None = None
    epoch: Count = 0
    """Grows with each claim by a worker: what an older claim still writes is refused."""
    attempts: Count = 0
    """Claims since the last progress whose worker or engine died of the job, the present one included."""
    claims: tuple[Token, ...] = ()
    """The ids of these claims, oldest first. One whose worker is heard of again was no death, and is taken out."""
    preparations: Count = 0
    """Worker processes in a row that have begun to fetch and decode it without coming to an end."""
    prepared_by: Label | None = None
    """The last of these."""
    committed: Count = 0
    """Stretches that are transcribed and published for good."""
    stretches: Count | None = None
    progress: Percent = 0
    """Percent of the audio's duration."""
    duration_secs: Seconds | None = None
    language: Label | None = None
    """Found or asked for; None until known, and where nothing was said."""
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
    progress: int
    segments: list[Segment]
    error: JobError | None
    queue_position: int | None = None
    """1 is the next to be run; None when it is not queued."""
    eta: Timestamp | None = None
    """When a queued job will have ended, by what workers have measured; None where nothing is measured yet."""
    created_at: Timestamp
    started_at: Timestamp | None
    completed_at: Timestamp | None
    timings: Timings | None = None
    """Once it is done."""


class JobAccepted(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to POST /jobs."""

    job_id: str


class JobList(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to GET /jobs: newest first, without segments."""

    jobs: list[Job]
    next_cursor: str | None = None
    """Given as `cursor` it brings the next page; None on the last."""


class JobReply(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to `whisper.jobs.get.<id>`, `.cancel.<id>`."""

    v: int = VERSION
    job: Job
    result: str | None = None
    """Where the job is too large for a message: the object in WHISPER_RESULTS that holds it whole; `job` then has no segments."""


def to_job(
    record: JobRecord,
    segments: list[Segment],
    progress: int = 0,
    *,
    queue_position: int | None = None,
    eta: Timestamp | None = None,
) -> Job:
    """Put record and event log together. `progress` (percent) may be ahead of the record's."""
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
