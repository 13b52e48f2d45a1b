"""Registered webhook URLs, what waits to be delivered to them, and the bodies that they get. Pure."""

import hashlib

import msgspec

from schemas.events import Done, JobCancelled, JobEvent, JobFailed, Progress, Started
from schemas.jobs import VERSION, Job, JobRecord, JobRequest, Timestamp, WebhookEvent
from schemas.limits import Count, Label, Seconds, Token, Url
from schemas.model import ModelEvent, ModelState, event_name

MODEL_EVENTS = (event_name(ModelState.READY), event_name(ModelState.UNLOADED))
"""What every registered URL is told of the model."""

WEBHOOK_EVENTS: dict[type[JobEvent], WebhookEvent] = {
    Started: WebhookEvent.STARTED,
    Progress: WebhookEvent.PROGRESS,
    Done: WebhookEvent.COMPLETED,
    JobFailed: WebhookEvent.FAILED,
    JobCancelled: WebhookEvent.CANCELLED,
}
"""What a job's webhook can be told of, and which event it comes from."""


PROGRESS_SECS = 10.0
"""A progress notice that has waited for longer is left out: a receiver that is slower than one in a second still learns of
the end in time."""


class Webhook(msgspec.Struct, kw_only=True, frozen=True):
    """A URL that was given as a job's webhook_url."""

    v: int = VERSION
    id: Token
    url: Url
    created_at: Timestamp


class RegisteredWebhook(Webhook, kw_only=True, frozen=True):
    """The value of a URL's key in WHISPER_WEBHOOK_URLS. `GET /webhooks` shows the URL without password and query."""

    failing_since: Timestamp | None = None
    """When the first delivery was given up after the last success; None for a URL that works."""


class WebhookList(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to GET /webhooks, oldest first."""

    webhooks: list[RegisteredWebhook]


class QueueState(msgspec.Struct, kw_only=True, frozen=True):
    """Of the deliveries that wait for one URL: the value of its key in WHISPER_WEBHOOK_QUEUES.

    Times are told by the server's stamp on this entry, so no gateway's clock matters.
    """

    v: int = VERSION
    owner: Label | None = None
    """The gateway that delivers to this URL now; it renews the entry."""
    seq: Count = 0
    """The delivery in WHISPER_WEBHOOKS that `tries` is about: the first in line."""
    tries: Count = 0
    """That have failed."""
    delay_secs: Seconds = 0.0
    """The next try is due so long after this entry was written."""


class JobNotice(Job, kw_only=True, frozen=True):
    """The body of a POST about a job: the job, and what happened to it. Segments come with its end."""

    type: str
    """One of WebhookEvent, or a later version's."""


class WebhookDelivery(msgspec.Struct, kw_only=True, frozen=True):
    """A message on `whisper.webhooks.<webhook_id>`, until it is delivered or given up."""

    v: int = VERSION
    id: Label
    """The `webhook-id` header: the same at each try."""
    webhook: Webhook
    type: Label
    number: Count = 1
    """Of its first try: more than 1 in what a version before QueueState has put back."""
    round: Count = 1
    """Grows each time that it is given up, so that what is requeued is no duplicate of what was."""
    model: ModelEvent | None = None
    """The body, for an event of the model."""
    record: JobRecord | None = None
    """Of the job as it was then, for one of a job. The transcript is read when it is sent."""


def webhook_id(url: str) -> str:
    """The same URL has the same id, so that registering it twice is nothing."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def is_told_of_the_model(webhook: RegisteredWebhook, now: Timestamp, failing_secs: float) -> bool:
    """Those are not that have only failed for so long: each change of the model would be one more delivery to give up."""
    since = webhook.failing_since
    return since is None or (now - since).total_seconds() < failing_secs


def webhook_of(request: JobRequest, created_at: Timestamp) -> Webhook | None:
    """The webhook that a job brings."""
    url = request.webhook_url
    return None if url is None else Webhook(id=webhook_id(url), url=url, created_at=created_at)


def job_delivery(event: JobEvent, record: JobRecord, seq: int) -> WebhookDelivery | None:
    """What a job's webhook is to be told of an event, whose sequence is `seq`; None where nothing.

    The id of a progress notice holds the second, and the queue takes an id once: so there is one in a second, whichever
    gateways turn the events into deliveries.
    """
    kind, webhook = WEBHOOK_EVENTS.get(type(event)), webhook_of(record.request, record.created_at)
    if kind is None or webhook is None or kind not in record.request.webhook_events:
        return None
    what = f"{record.id}_{int(event.at.timestamp())}" if kind is WebhookEvent.PROGRESS else str(seq)
    if isinstance(event, Progress):
        record = msgspec.structs.replace(record, progress=max(record.progress, event.percent))
    return WebhookDelivery(id=f"msg_{what}_{webhook.id}", webhook=webhook, type=kind, record=record)


def model_delivery(event: ModelEvent, webhook: Webhook, seq: int) -> WebhookDelivery:
    return WebhookDelivery(id=f"msg_{seq}_{webhook.id}", webhook=webhook, type=event.type, model=event)


def job_notice(kind: str, job: Job) -> JobNotice:
    return JobNotice(type=kind, **{name: getattr(job, name) for name in Job.__struct_fields__})
