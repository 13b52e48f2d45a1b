"""The table of everything that is read from others, and the only way of reading it.

A message on a subject or an entry in a bucket was written by somebody else: a user, an operator, a process of another version, or a
broken one. INPUTS names each kind, where it is, and who may write there. `Input.read` is the only place where such bytes become
objects. Every defect comes out as one exception, Unreadable, and each reader then leaves the message out or keeps it as a dead
letter; none of them ends.
"""

from typing import Any, Generic, TypeVar

import msgspec

from schemas import subjects
from schemas.events import KNOWN_TYPES, JobEvent, event_type
from schemas.idempotency import Claim
from schemas.jobs import JobRecord, JobRequest
from schemas.limits import Count, Name, Token, clipped
from schemas.model import ModelEvent, ModelStatus, UnloadRequest, WorkerStatus
from schemas.webhooks import QueueState, RegisteredWebhook, WebhookDelivery

T = TypeVar("T")

MAX_CHUNK_BYTES = 64 * 1024 * 1024
"""Largest `max_payload` of nats-server: no chunk of an object can be larger."""


class Unreadable(Exception):
    """The bytes are not what their place should hold; the sentence says why."""


class ObjectMeta(msgspec.Struct, kw_only=True, frozen=True):
    """The meta of an object in an object store (NATS ADR-20), as far as it is needed here."""

    name: Name
    nuid: Token
    """A token of the subject of its chunks: a wildcard here would mean the chunks of all objects."""
    size: Count = 0
    chunks: Count = 0
    digest: Name | None = None
    deleted: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for a size that its chunks cannot hold."""
        if self.size > self.chunks * MAX_CHUNK_BYTES:
            raise ValueError(f"{self.chunks} chunks cannot hold {self.size} bytes")


class Input(Generic[T]):
    """One kind of message or entry: where it is, who writes it, how it is read."""

    def __init__(self, kind: Any, place: str, writers: str) -> None:
        """`place` is the subject, with wildcards; `writers` says who may write there (nats/production.conf)."""
        self.place, self.writers = place, writers
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)

    def read(self, body: bytes) -> T:
        """Return the object. Raises Unreadable; its cause is a msgspec.ValidationError where the bytes are valid JSON."""
        try:
            return self._decoder.decode(body)
        except (ValueError, RecursionError, OverflowError) as error:
            # The errors of msgspec are ValueErrors, and so is the UnicodeDecodeError of invalid UTF-8 in a string.
            raise Unreadable(clipped(str(error))) from error


def _entries(bucket: str) -> str:
    return subjects.kv_key(bucket, "*")


SUBMISSION: Input[JobRequest] = Input(JobRequest, subjects.ALL_SUBMITS, "gateways, publishers")
JOB_EVENT: Input[JobEvent] = Input(JobEvent, subjects.event("*", "*"), "workers, gateways")
MODEL_EVENT: Input[ModelEvent] = Input(ModelEvent, subjects.ALL_MODEL_EVENTS, "workers")
RECORD: Input[JobRecord] = Input(JobRecord, _entries(subjects.RECORDS_BUCKET), "workers, gateways")
WORKER_STATUS: Input[WorkerStatus] = Input(WorkerStatus, _entries(subjects.WORKERS_BUCKET), "workers")
CLAIM: Input[Claim] = Input(Claim, _entries(subjects.IDEMPOTENCY_BUCKET), "gateways")
WEBHOOK_URL: Input[RegisteredWebhook] = Input(
    RegisteredWebhook, _entries(subjects.WEBHOOK_URLS_BUCKET), "gateways"
)
WEBHOOK_QUEUE: Input[QueueState] = Input(QueueState, _entries(subjects.WEBHOOK_QUEUES_BUCKET), "gateways")
DELIVERY: Input[WebhookDelivery] = Input(WebhookDelivery, subjects.ALL_WEBHOOKS, "gateways")
OBJECT_META: Input[ObjectMeta] = Input(ObjectMeta, "$O.*.M.*", "gateways, publishers")
MODEL_REPLY: Input[ModelStatus] = Input(ModelStatus, "replies to whisper.model.>", "workers")
UNLOAD_REQUEST: Input[UnloadRequest] = Input(UnloadRequest, subjects.model_control("unload"), "operators")
LIST_REQUEST: Input[dict[str, object]] = Input(
    dict[str, object], subjects.job_control("list"), "clients, operators"
)

INPUTS: dict[str, Input[Any]] = {
    "submission": SUBMISSION,
    "job event": JOB_EVENT,
    "model event": MODEL_EVENT,
    "record": RECORD,
    "worker status": WORKER_STATUS,
    "idempotency claim": CLAIM,
    "webhook URL": WEBHOOK_URL,
    "webhook queue": WEBHOOK_QUEUE,
    "webhook delivery": DELIVERY,
    "object meta": OBJECT_META,
    "model reply": MODEL_REPLY,
    "unload request": UNLOAD_REQUEST,
    "list request": LIST_REQUEST,
}
"""docs/architecture.md shows this table, which a test compares."""


def job_event(subject: str, body: bytes) -> JobEvent | None:
    """Return the event on a subject of a job; None for a type of a later version.

    Raises Unreadable, also where subject and body contradict each other.
    """
    job_id, kind = subjects.job_of(subject), subjects.last_token(subject)
    if kind not in KNOWN_TYPES:
        return None
    event = JOB_EVENT.read(body)
    if event_type(event) != kind or event.job_id != job_id:
        raise Unreadable(f"{subject} tells of {event.job_id}.{event_type(event)}")
    record = getattr(event, "record", None)
    if record is not None and (record.id != job_id or record.status != kind):
        raise Unreadable(f"{subject} has the record of the job {record.id}, which is {record.status}")
    return event


def record(job_id: str, body: bytes) -> JobRecord:
    """Return the record under a job's key. Raises Unreadable, also for the record of another job."""
    found = RECORD.read(body)
    if found.id != job_id:
        raise Unreadable(f"the record of the job {job_id} says that it is of {found.id}")
    return found
