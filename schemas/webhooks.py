"""Registered webhook URLs, the deliveries to them, and the bodies of these. Pure."""

import hashlib

import msgspec

from schemas.events import Done, JobCancelled, JobEvent, JobFailed, Progress, Started
from schemas.jobs import VERSION, Job, JobRecord, JobRequest, Timestamp, WebhookEvent
from schemas.limits import Count, Label, Seconds, Token, Url
from schemas.model import ModelEvent, ModelState, event_name
from schemas.urls import basic_credentials, without_credentials

MODEL_EVENTS = (event_name(ModelState.READY), event_name(ModelState.UNLOADED))
"""Types of the model events that every registered URL gets."""

WEBHOOK_EVENTS: dict[type[JobEvent], WebhookEvent] = {
    Started: WebhookEvent.STARTED,
    Progress: WebhookEvent.PROGRESS,
    Done: WebhookEvent.COMPLETED,
    JobFailed: WebhookEvent.FAILED,
    JobCancelled: WebhookEvent.CANCELLED,
}
"""Event of a job to the webhook event that follows from it."""
PROGRESS_SECS = 10.0
"""A progress notice that has waited longer is dropped, so that a slow receiver learns of the end in time."""


class Webhook(msgspec.Struct, kw_only=True, frozen=True):
    """A URL that was given as a job's webhook_url."""

    v: int = VERSION
    id: Token
    url: Url
    created_at: Timestamp


class RegisteredWebhook(Webhook, kw_only=True, frozen=True):
    """The value of a URL's key in WHISPER_WEBHOOK_URLS. `GET /webhooks` shows the URL without password and query."""

    failing_since: Timestamp | None = None
    """When the first delivery after the last success was given up; None for a URL that works."""


class WebhookList(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to GET /webhooks, oldest first."""

    webhooks: list[RegisteredWebhook]


class QueueState(msgspec.Struct, kw_only=True, frozen=True):
    """The state of the queue of one URL: the value of its key in WHISPER_WEBHOOK_QUEUES.

    Its times count from the server's time stamp of the entry, so that no gateway's clock matters.
    """

    v: int = VERSION
    owner: Label | None = None
    """The gateway that works on the queue now, and renews the entry."""
    seq: Count = 0
    """Stream sequence of the first delivery of the queue, which `tries` is about."""
    tries: Count = 0
    """Failed attempts at that delivery."""
    delay_secs: Seconds = 0.0
    """How long after the writing of this entry the next attempt is due."""


class JobNotice(Job, kw_only=True, frozen=True):
    """The body of a POST about a job: the job and what has happened to it. Segments are there once it has ended."""

    type: str
    """One of WebhookEvent, or one of a later version."""


class WebhookDelivery(msgspec.Struct, kw_only=True, frozen=True):
    """A message on `whisper.webhooks.<webhook_id>`, until it is delivered or given up."""

    v: int = VERSION
    id: Label
    """The header `webhook-id`, which is the same at each attempt."""
    webhook: Webhook
    type: Label
    number: Count = 1
    """1-based number of its first attempt. It is above 1 where a version without QueueState has put the delivery back."""
    round: Count = 1
    """Grows each time that it is given up, so that a requeued delivery is no duplicate of the earlier one."""
    model: ModelEvent | None = None
    """The body of a delivery about a model."""
    record: JobRecord | None = None
    """The record at the time of the event, in a delivery about a job. The transcript is read when it is sent."""


def webhook_id(url: str) -> str:
    """Return the id of a URL. It is the same for the same URL, so that a second registration changes nothing."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def is_told_of_the_model(webhook: RegisteredWebhook, now: Timestamp, failing_secs: float) -> bool:
    """Whether a URL gets events of the model. One whose deliveries have failed for `failing_secs` does not.

    Otherwise each change of the model would be one more delivery to give up.
    """
    since = webhook.failing_since
    return since is None or (now - since).total_seconds() < failing_secs


def webhook_of(request: JobRequest, created_at: Timestamp) -> Webhook | None:
    """Return the webhook of a job; None where it has none. The URL of a discreet request lacks its user and password."""
    url = request.webhook_url
    if url is None:
        return None
    return Webhook(id=request.webhook_id or webhook_id(url), url=url, created_at=created_at)


def discreet(request: JobRequest) -> JobRequest:
    """Return a request as it may stand on `whisper.events.>`, which all publishers read: without user and password of its URL.

    The register of webhook URLs keeps them, under the id that the request then has. An older gateway delivers to the URL without
    them, which its receiver refuses; this lasts for as long as a rolling upgrade.
    """
    url = request.webhook_url
    if url is None or basic_credentials(url) is None:
        return request
    return msgspec.structs.replace(request, webhook_url=without_credentials(url), webhook_id=webhook_id(url))


def is_whole(webhook: Webhook) -> bool:
    """Whether the URL of a webhook is the one that its id was made of, and lacks nothing."""
    return webhook.id == webhook_id(webhook.url)


def job_delivery(event: JobEvent, record: JobRecord, seq: int) -> WebhookDelivery | None:
    """Return the delivery that follows from an event of a job with the stream sequence `seq`; None where none does.

    The id of a progress notice has the second of its event, and the queue takes each id once. So there is one notice in a second,
    whichever gateways plan them.
    """
    kind, webhook = WEBHOOK_EVENTS.get(type(event)), webhook_of(record.request, record.created_at)
    if kind is None or webhook is None or kind not in record.request.webhook_events:
        return None
    what = f"{record.id}_{int(event.at.timestamp())}" if kind is WebhookEvent.PROGRESS else str(seq)
    if isinstance(event, Progress):
        record = msgspec.structs.replace(record, progress=max(record.progress, event.percent))
    return WebhookDelivery(id=f"msg_{what}_{webhook.id}", webhook=webhook, type=kind, record=record)


def model_delivery(event: ModelEvent, webhook: Webhook, seq: int) -> WebhookDelivery:
    """Return the delivery of a model event with the stream sequence `seq`."""
    return WebhookDelivery(id=f"msg_{seq}_{webhook.id}", webhook=webhook, type=event.type, model=event)


def job_notice(kind: str, job: Job) -> JobNotice:
    """Return the body of a POST about a job."""
    return JobNotice(type=kind, **{name: getattr(job, name) for name in Job.__struct_fields__})
