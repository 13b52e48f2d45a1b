"""One valid message of each kind that is read from others, as JSON, and the subjects that it belongs on."""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas import inputs, subjects
from schemas.errors import ErrorCode, JobError
from schemas.events import Done, Invalid, JobEvent, JobFailed, Progress, SegmentAdded, Started, event_type
from schemas.idempotency import Claim
from schemas.inputs import Input, ObjectMeta
from schemas.jobs import JobRecord, JobRequest, JobStatus, Segment, WebhookEvent, Word
from schemas.model import GpuStatus, ModelEvent, ModelState, ModelStatus, Speed, UnloadRequest, WorkerStatus
from schemas.options import Task, TranscribeOptions
from schemas.webhooks import QueueState, Webhook, WebhookDelivery

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
URL = "http://127.0.0.1:9/hook"
"""A port of this machine on which nobody listens."""
REQUEST = JobRequest(
    audio="some-audio",
    filename="a.wav",
    options=TranscribeOptions(language="en", task=Task.TRANSCRIBE, prompt="Hello."),
    webhook_url=URL,
    webhook_events=tuple(WebhookEvent),
    created_at=NOW,
    upload_secs=1.0,
)
SEGMENT = Segment(
    index=0, start=0, end=1, text=" one", words=[Word(start=0, end=1, text=" one", probability=0.9)]
)
MODEL = ModelStatus(
    state=ModelState.READY, since=NOW, worker_id="w", model="demo", path="/m", backend="cpu", load_secs=1
)


def record(job_id: str, status: JobStatus = JobStatus.RUNNING) -> JobRecord:
    error = JobError(code=ErrorCode.AUDIO_EMPTY, message="m") if status is JobStatus.FAILED else None
    return JobRecord(
        id=job_id,
        status=status,
        request=REQUEST,
        created_at=NOW,
        started_at=NOW,
        completed_at=NOW if status in (JobStatus.DONE, JobStatus.FAILED) else None,
        worker_id="w",
        epoch=1,
        attempts=1,
        stretches=2,
        progress=50,
        duration_secs=10,
        language="en",
        error=error,
    )


def job_events(job_id: str) -> list[JobEvent]:
    about: dict[str, Any] = {"job_id": job_id, "at": NOW}
    return [
        Started(**about, worker_id="w", attempt=1),
        Progress(**about, percent=50),
        SegmentAdded(**about, segment=SEGMENT),
        Done(**about, record=record(job_id, JobStatus.DONE)),
        JobFailed(**about, record=record(job_id, JobStatus.FAILED)),
        Invalid(**about, code=ErrorCode.INVALID_REQUEST, message="m", field="f"),
    ]


class Sample(msgspec.Struct, frozen=True):
    kind: str
    """A key of schemas.inputs.INPUTS."""
    subject: str
    body: bytes

    @property
    def input(self) -> Input[Any]:
        return inputs.INPUTS[self.kind]


def samples(job_id: str) -> list[Sample]:
    """For one job and a worker `w`. Together they cover every kind, but for answers that a client waits for."""
    webhook = Webhook(id="hook", url=URL, created_at=NOW)
    delivery = WebhookDelivery(id="msg_1_hook", webhook=webhook, type="completed", record=record(job_id))
    meta = ObjectMeta(name=job_id, nuid="nuid1", size=10, chunks=1)
    said: list[tuple[str, str, object]] = [
        ("submission", subjects.submit(job_id), REQUEST),
        ("record", f"$KV.{subjects.RECORDS_BUCKET}.{job_id}", record(job_id)),
        (
            "worker status",
            f"$KV.{subjects.WORKERS_BUCKET}.w",
            WorkerStatus(
                worker_id="w",
                at=NOW,
                model=MODEL,
                job_id=job_id,
                speed=Speed(real_time_factor=0.1, audio_secs=10),
                gpu=GpuStatus(name="g", driver="1", vram_total=3, vram_used=1, vram_free=2),
            ),
        ),
        (
            "idempotency claim",
            f"$KV.{subjects.IDEMPOTENCY_BUCKET}.{job_id}",
            Claim(job_id=job_id, renewed_at=NOW),
        ),
        ("webhook URL", f"$KV.{subjects.WEBHOOK_URLS_BUCKET}.hook", webhook),
        (
            "webhook queue",
            f"$KV.{subjects.WEBHOOK_QUEUES_BUCKET}.hook",
            QueueState(owner="g", seq=1, tries=1, delay_secs=1),
        ),
        ("webhook delivery", subjects.webhook("hook"), delivery),
        ("object meta", f"$O.{subjects.AUDIO_BUCKET}.M.{_object_token(job_id)}", meta),
        ("unload request", subjects.model_control("unload"), UnloadRequest()),
        ("list request", subjects.job_control("list"), {"limit": 5, "status": "done"}),
        (
            "model event",
            subjects.model_event("w", "model_ready"),
            ModelEvent(type="model_ready", worker_id="w", at=NOW, model=MODEL),
        ),
        *(("job event", subjects.event(job_id, event_type(event)), event) for event in job_events(job_id)),
    ]
    return [Sample(kind, subject, msgspec.json.encode(what)) for kind, subject, what in said]


def _object_token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


NONSENSE = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"7",
    b"not json",
    b"\xff\xfe\x00",
    b'{"filename":"\xff"}',
    b'{"x":' * 100_000,
    b"[" * 100_000,
    b'{"v":2}',
    b'{"v":99999999999999999999999}',
    b'{"id":"' + b"y" * 700_000 + b'"}',
    b'{"webhook_url":"http://a..b/"}',
    b'{"webhook_url":"http://' + b"l" * 64 + b'/"}',
    b'{"webhook_url":"' + b"u" * 700_000 + b'"}',
    b'{"filename":"' + b"f" * 1_048_500 + b'"}',
    b'{"nuid":"*","name":"x","size":1,"chunks":1}',
    b'{"nuid":"n","name":"x","size":1000000000000000,"chunks":1}',
    b'{"at":"9999-12-31T23:59:59.999999-23:59"}',
]
"""What is no message of ours, whatever the subject."""
