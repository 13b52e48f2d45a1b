"""The AsyncAPI document of the NATS door, generated from schemas and topology: `python -m asyncapi.document`.

What AsyncAPI has no word for is in `x-` fields: who publishes and who subscribes, which stream keeps a subject, the
settings of streams, consumers and buckets.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec
from nats.js.api import Header

from broker.connection import BrokerSettings
from broker.topology import declared as topology
from schemas import subjects
from schemas.events import (
    Done,
    Invalid,
    JobCancelled,
    JobEvent,
    JobFailed,
    Progress,
    SegmentAdded,
    Started,
    event_type,
)
from schemas.jobs import JobList, JobReply, JobRequest
from schemas.model import ModelEvent, ModelStatus, UnloadRequest
from schemas.version import VERSION
from schemas.webhooks import WebhookDelivery

FILE = Path(__file__).parent.parent / "docs" / "asyncapi.json"
SETTINGS = BrokerSettings()

JOB_ID = {"job_id": {"description": "1 to 64 of A-Z a-z 0-9 - _"}}
WORKER_ID = {"worker_id": {"description": "As told in the model's status"}}
EVENTS: tuple[type[JobEvent], ...] = (
    Started,
    Progress,
    SegmentAdded,
    Done,
    JobFailed,
    JobCancelled,
    Invalid,
)


def document() -> dict[str, Any]:
    kinds = [
        JobRequest, JobReply, JobList, *EVENTS, ModelEvent, ModelStatus, UnloadRequest, WebhookDelivery,
    ]  # fmt: skip
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    channels = {**_job_channels(), **_event_channels(), **_model_channels(), **_inner_channels()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "whisper-jetstream over NATS",
            "version": VERSION,
            "description": "Audio goes into the object store WHISPER_AUDIO, one publish makes it a job, its events tell "
            "what becomes of it. Requests that are refused are answered with Nats-Service-Error and "
            "Nats-Service-Error-Code (NATS ADR-32); the body is the problem that HTTP would answer with.",
            "license": {"name": "Apache-2.0"},
        },
        "channels": {name: channel for name, (channel, _) in channels.items()},
        "operations": {name: operation for name, (_, operation) in channels.items()},
        "components": {"schemas": components},
        "x-streams": [_settings(config) for config in topology.streams(SETTINGS)],
        "x-consumers": {
            subjects.JOBS_STREAM: [_settings(topology.gpu_worker_consumer(SETTINGS))],
            subjects.EVENTS_STREAM: [_settings(topology.webhook_events_consumer(SETTINGS))],
        },
        "x-buckets": {
            "object": {
                subjects.AUDIO_BUCKET: "audio of jobs, by job id or the name that the request gives",
                subjects.RESULTS_BUCKET: "jobs that are too large for a reply, by job id",
            },
            "keyValue": {
                subjects.RECORDS_BUCKET: "a JobRecord per job that a worker has touched",
                subjects.WORKERS_BUCKET: f"a WorkerStatus per worker; gone {topology.WORKER_TTL_SECS:g} s after its last",
                subjects.WEBHOOK_URLS_BUCKET: "a RegisteredWebhook per URL that was ever given",
                subjects.WEBHOOK_QUEUES_BUCKET: "a QueueState per URL: which gateway delivers to it, and how it went",
                subjects.IDEMPOTENCY_BUCKET: "a Claim per Idempotency-Key",
            },
        },
    }


def _settings(config: Any) -> dict[str, Any]:
    return {name: value for name, value in sorted(config.as_dict().items()) if value is not None}


def _channel(
    name: str,
    address: str,
    body: type | None,
    *,
    by: str,
    to: str,
    summary: str,
    parameters: dict[str, Any] | None = None,
    stream: str | None = None,
    reply: type | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """A channel and the operation on it, as seen by our processes: they receive what others publish."""
    channel: dict[str, Any] = {
        "address": address,
        "messages": {name: _message(body, headers)},
        "x-published-by": by,
        "x-subscribed-by": to,
    }
    if parameters:
        channel["parameters"] = parameters
    if stream:
        channel["x-stream"] = stream
    operation: dict[str, Any] = {
        "action": "receive" if "client" in by else "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": summary,
    }
    if reply is not None:
        operation["x-reply"] = {"$ref": f"#/components/schemas/{reply.__name__}"}
    return {name: (channel, operation)}


def _message(body: type | None, headers: dict[str, str] | None) -> dict[str, Any]:
    message: dict[str, Any] = {"contentType": "application/json"}
    if body is not None:
        message["payload"] = {"$ref": f"#/components/schemas/{body.__name__}"}
    if headers:
        properties = {name: {"type": "string", "description": text} for name, text in headers.items()}
        message["headers"] = {"type": "object", "properties": properties}
    return message


def _job_channels() -> dict[str, Any]:
    message_id = str(Header.MSG_ID.value)
    found = _channel(
        "submit",
        subjects.submit("{job_id}"),
        JobRequest,
        by="clients, gateway",
        to="gpu_worker (consumer gpu-worker)",
        summary="This one publish is the submission; its audio is in the bucket already",
        parameters=JOB_ID,
        stream=subjects.JOBS_STREAM,
        headers={message_id: "The job id, so that a publish that is tried again is one job"},
    )
    for action, summary, reply in (
        ("get", "The job with its transcript so far", JobReply),
        ("cancel", "End a job that has not ended", JobReply),
        ("erase", "Remove everything that is known of an ended job", None),
    ):
        found |= _channel(
            f"{action}Job",
            subjects.job_control(action, "{job_id}"),
            None,
            by="clients",
            to="gateway (micro service whisper-jobs)",
            summary=summary,
            parameters=JOB_ID,
            reply=reply,
        )
    return found | _channel(
        "listJobs",
        subjects.job_control("list"),
        None,
        by="clients",
        to="gateway (micro service whisper-jobs)",
        summary="Newest first. Body: an object with limit, cursor, status, created_after, as over HTTP",
        reply=JobList,
    )


def _event_channels() -> dict[str, Any]:
    found = _channel(
        "jobQueued",
        subjects.event("{job_id}", subjects.QUEUED),
        JobRequest,
        by="nats-server (republish of the submission)",
        to="gateway, clients",
        summary="The submission is stored",
        parameters=JOB_ID,
        stream=subjects.EVENTS_STREAM,
    )
    for kind in EVENTS:
        found |= _channel(
            f"job{event_type(kind).capitalize()}",
            subjects.event("{job_id}", event_type(kind)),
            kind,
            by="gpu_worker, gateway" if kind is JobCancelled else "gpu_worker",
            to="gateway, clients",
            summary=" ".join((kind.__doc__ or f"The job is {event_type(kind)}.").split()),
            parameters=JOB_ID,
            stream=subjects.EVENTS_STREAM,
        )
    return found


def _model_channels() -> dict[str, Any]:
    found = _channel(
        "modelEvent",
        subjects.model_event("{worker_id}", "{type}"),
        ModelEvent,
        by="gpu_worker",
        to="gateway, clients",
        summary="A worker's model has come into another state",
        parameters={**WORKER_ID, "type": {"description": "`model_` and the state"}},
        stream=subjects.EVENTS_STREAM,
    )
    for action, body in (("status", None), ("load", None), ("unload", UnloadRequest)):
        for worker, suffix in ((None, ""), ("{worker_id}", "OfWorker")):
            found |= _channel(
                f"{action}Model{suffix}",
                subjects.model_control(action, worker),
                body,
                by="clients, gateway",
                to="gpu_worker (micro service whisper-model)",
                summary=f"{action.capitalize()}: the model's status, without waiting for what becomes of it",
                parameters=WORKER_ID if worker else None,
                reply=ModelStatus,
            )
    return found


def _inner_channels() -> dict[str, Any]:
    return {
        **_channel(
            "webhookDelivery",
            subjects.webhook("{webhook_id}"),
            WebhookDelivery,
            by="gateway",
            to="gateway (one at a time for each URL, by WHISPER_WEBHOOK_QUEUES)",
            summary="A delivery",
            parameters={"webhook_id": {"description": "As GET /webhooks tells it"}},
            stream=subjects.WEBHOOKS_STREAM,
        ),
        **_channel(
            "deadLetter",
            f"{subjects.DEAD_PREFIX}.{{kind}}.{{id}}",
            None,
            by="gpu_worker, gateway",
            to="operators",
            summary="A message that nobody could use, as it was",
            parameters={
                "kind": {"enum": ["submit", "webhooks"]},
                "id": {"description": "Last token of its subject"},
            },
            stream=subjects.DEAD_STREAM,
            headers={
                subjects.REASON_HEADER: "Why, in words",
                subjects.ORIGIN_HEADER: "The subject that it was on",
            },
        ),
    }


def encoded() -> bytes:
    return msgspec.json.format(msgspec.json.encode(document(), order="deterministic")) + b"\n"


def main() -> None:
    FILE.write_bytes(encoded())
    sys.stdout.write(f"{FILE} written\n")


if __name__ == "__main__":
    main()
