"""The OpenAPI document, generated from the schemas: `python -m gateway.openapi.document` writes docs/openapi.json."""

import sys
from pathlib import Path
from typing import Any

import msgspec

from gateway.http.upload import AUDIO_FIELD
from gateway.openapi.parts import Refs, get, header, json_body, path_parameter, problems, query
from gateway.operations.listing import LIMIT_DEFAULT, LIMIT_MAX
from gateway.operations.submission import KEY_HEADER
from schemas.errors import ErrorCode, Problem
from schemas.jobs import (
    DEFAULT_WEBHOOK_EVENTS,
    Job,
    JobAccepted,
    JobList,
    JobStatus,
    TranscribeOptions,
    WebhookEvent,
)
from schemas.model import Health, Liveness, ModelState, ModelStatus, event_name
from schemas.webhooks import WebhookList

FILE = Path(__file__).parents[2] / "docs" / "openapi.json"
VERSION = "0.1.0"
STREAM_TEXT = (
    "Server-sent events: `queued`, `started`, `progress`, `segment`, then one of `done`, `failed`, `cancelled`, which "
    "ends the stream and carries the job. Everything that has already happened comes first; where some of that is pruned "
    "already, a `snapshot` of the job stands for it. `id` is the position: send it as `Last-Event-ID` (or "
    "`?last_event_id=`) to go on behind it. Who has seen the end gets 204."
)

MODEL_STREAM_TEXT = (
    "Server-sent events without an end: first `model_status`, how things are, for who does not resume; then "
    + ", ".join(f"`{event_name(state)}`" for state in ModelState if state is not ModelState.OFFLINE)
    + " as they happen. `id` is the position to resume behind."
)
SUBMIT_TEXT = (
    "While no model is ready the answer is 503 with Retry-After, before the body is read, and a load is asked for. "
    "`Prefer: respond-async`, or JOBS_WHEN_UNLOADED=queue at the gateway, queues the job instead."
)
PREFER = header("Prefer", "Queue the job where no model is ready", "respond-async")
ONCE = header(KEY_HEADER, "The same key with the same content is the same job, whichever gateway it comes to")
RESUME = [
    header("Last-Event-ID", "The last event that was seen"),
    query("last_event_id", {"type": "string"}, "The same, for clients that cannot set headers"),
]
LIST = [
    query(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
        "Jobs on a page",
    ),
    query("cursor", {"type": "string"}, "next_cursor of the page before"),
    query("status", {"enum": list(JobStatus)}, "Only these"),
    query("created_after", {"type": "string", "format": "date-time"}, "Only jobs that are newer"),
]
ERASE = query(
    "erase", {"type": "boolean", "default": False}, "Remove everything that is known of an ended job"
)


def document() -> dict[str, Any]:
    kinds = [
        Job,
        JobAccepted,
        JobList,
        TranscribeOptions,
        ModelStatus,
        Health,
        Liveness,
        WebhookList,
        Problem,
    ]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    ref = dict(zip(kinds, schemas, strict=True))
    job_id = path_parameter("job_id")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "whisper-jetstream",
            "version": VERSION,
            "description": "Send audio, watch it become text live.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/jobs": {
                "post": {
                    "summary": "Submit audio",
                    "description": SUBMIT_TEXT,
                    "operationId": "submitJob",
                    "parameters": [PREFER, ONCE],
                    "requestBody": {
                        "required": True,
                        "content": {"multipart/form-data": {"schema": _form(components)}},
                    },
                    "responses": {
                        "200": json_body(
                            "This Idempotency-Key is that of a job that is here", ref[JobAccepted]
                        ),
                        "202": {
                            **json_body("Accepted; Location is the job", ref[JobAccepted]),
                            "headers": {"Location": {"schema": {"type": "string"}}},
                        },
                        **problems(
                            ref,
                            ErrorCode.INVALID_REQUEST,
                            ErrorCode.UPLOAD_INCOMPLETE,
                            ErrorCode.UNSUPPORTED_MEDIA_TYPE,
                            ErrorCode.INVALID_OPTION,
                            ErrorCode.MISSING_AUDIO,
                            ErrorCode.WEBHOOK_REFUSED,
                            ErrorCode.IDEMPOTENCY_MISMATCH,
                            ErrorCode.UPLOAD_RUNNING,
                            ErrorCode.MODEL_NOT_READY,
                            ErrorCode.MODEL_UNAVAILABLE,
                        ),
                    },
                },
                "get": {
                    "summary": "List jobs, newest first, without their segments",
                    "operationId": "listJobs",
                    "parameters": LIST,
                    "responses": {
                        "200": json_body("The jobs", ref[JobList]),
                        **problems(ref, ErrorCode.INVALID_OPTION),
                    },
                },
            },
            "/jobs/{job_id}": {
                "get": {
                    "summary": "Read a job with its transcript so far",
                    "operationId": "getJob",
                    "parameters": [job_id],
                    "responses": {
                        "200": json_body("The job", ref[Job]),
                        **problems(ref, ErrorCode.NOT_FOUND),
                    },
                },
                "delete": {
                    "summary": "Cancel a job that has not ended, or erase one that has",
                    "operationId": "cancelJob",
                    "parameters": [job_id, ERASE],
                    "responses": {
                        "200": json_body("The cancelled job", ref[Job]),
                        "204": {"description": "Erased"},
                        **problems(ref, ErrorCode.NOT_FOUND, ErrorCode.JOB_FINISHED, ErrorCode.JOB_RUNNING),
                    },
                },
            },
            "/jobs/{job_id}/stream": {
                "get": {
                    "summary": "Follow a job",
                    "description": STREAM_TEXT,
                    "operationId": "streamJob",
                    "parameters": [
                        job_id,
                        *RESUME,
                    ],
                    "responses": {
                        "200": {"description": "The events", "content": {"text/event-stream": {}}},
                        "204": {"description": "The client has seen the end"},
                        **problems(ref, ErrorCode.NOT_FOUND),
                    },
                }
            },
            **_model_paths(ref),
            **_webhook_paths(ref),
            **_health_paths(ref),
        },
        "components": {"schemas": components},
    }


def _model_paths(ref: Refs) -> dict[str, Any]:
    worker = query("worker_id", {"type": "string"}, "Default: the worker that is nearest to working")
    force = query(
        "force", {"type": "boolean", "default": False}, "Put jobs that are in the way back into the queue"
    )
    status = ref[ModelStatus]
    return {
        "/model/status": {
            "get": {
                "summary": "The model's state; `offline` where no worker is alive",
                "operationId": "getModelStatus",
                "parameters": [worker],
                "responses": {
                    "200": json_body("The model", status),
                    **problems(ref, ErrorCode.BROKER_UNAVAILABLE),
                },
            }
        },
        "/model/load": {
            "post": {
                "summary": "Ask for the model; idempotent",
                "operationId": "loadModel",
                "parameters": [worker],
                "responses": {
                    "200": json_body("It is ready", status),
                    "202": json_body("It will be; follow /model/events", status),
                    **problems(ref, ErrorCode.MODEL_NOT_READY),
                },
            }
        },
        "/model/unload": {
            "post": {
                "summary": "Hand the GPU back; `force=true` puts a running job back into the queue",
                "operationId": "unloadModel",
                "parameters": [worker, force],
                "responses": {
                    "200": json_body("It is unloaded", status),
                    "202": json_body("It is being unloaded; follow /model/events", status),
                    **problems(ref, ErrorCode.JOB_RUNNING, ErrorCode.MODEL_NOT_READY),
                },
            }
        },
        "/model/events": {
            "get": {
                "summary": "Follow the models of all workers",
                "description": MODEL_STREAM_TEXT,
                "operationId": "streamModel",
                "parameters": RESUME,
                "responses": {"200": {"description": "The events", "content": {"text/event-stream": {}}}},
            }
        },
    }


def _webhook_paths(ref: Refs) -> dict[str, Any]:
    webhook_id = path_parameter("webhook_id")
    return {
        "/webhooks": get(
            "listWebhooks",
            "Every URL ever given as webhook_url",
            {"200": json_body("The URLs", ref[WebhookList])},
        ),
        "/webhooks/{webhook_id}": {
            "delete": {
                "summary": "Forget a URL",
                "operationId": "removeWebhook",
                "parameters": [webhook_id],
                "responses": {"204": {"description": "Forgotten"}, **problems(ref, ErrorCode.NOT_FOUND)},
            }
        },
    }


def _health_paths(ref: Refs) -> dict[str, Any]:
    live = {"200": json_body("Yes", ref[Liveness])}
    unready = {"503": json_body("The broker cannot be reached", ref[Liveness])}
    return {
        "/health": get(
            "getHealth", "GPU, queue, model, workers and broker", {"200": json_body("Health", ref[Health])}
        ),
        "/health/live": get("getLiveness", "Does this process answer?", live),
        "/health/ready": get(
            "getReadiness", "Can it take jobs? An unloaded model counts as ready", live | unready
        ),
    }


def _form(components: dict[str, Any]) -> dict[str, Any]:
    """The options are form fields beside the audio."""
    options = components[TranscribeOptions.__name__]["properties"]
    return {
        "type": "object",
        "required": [AUDIO_FIELD],
        "properties": {
            AUDIO_FIELD: {
                "type": "string",
                "contentMediaType": "application/octet-stream",
                "format": "binary",
            },
            **options,
            "webhook_url": {"type": "string", "format": "uri"},
            "webhook_events": {
                "type": "string",
                "description": f"Some of {', '.join(WebhookEvent)}, divided by commas",
                "default": ",".join(DEFAULT_WEBHOOK_EVENTS),
            },
        },
    }


def encoded() -> bytes:
    return msgspec.json.format(msgspec.json.encode(document(), order="deterministic")) + b"\n"


def main() -> None:
    FILE.write_bytes(encoded())
    sys.stdout.write(f"{FILE} written\n")


if __name__ == "__main__":
    main()
