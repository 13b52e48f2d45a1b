"""The OpenAPI document, generated from the schemas: `python -m gateway.openapi` writes docs/openapi.json."""

import sys
from pathlib import Path
from typing import Any

import msgspec

from gateway.upload import AUDIO_FIELD
from schemas.errors import HTTP_STATUS, ErrorCode, Problem
from schemas.jobs import Job, JobAccepted, JobList, TranscribeOptions
from schemas.model import Health, Liveness, ModelState, ModelStatus, event_name
from schemas.webhooks import WebhookList

FILE = Path(__file__).parent.parent / "docs" / "openapi.json"
VERSION = "0.1.0"
STREAM_TEXT = (
    "Server-sent events: `queued`, `started`, `progress`, `segment`, then one of `done`, `failed`, `cancelled`, which "
    "ends the stream and carries the job. Everything that has already happened comes first. `id` is the position: "
    "send it as `Last-Event-ID` (or `?last_event_id=`) to go on behind it."
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
PREFER = {"name": "Prefer", "in": "header", "schema": {"type": "string"}, "example": "respond-async"}
RESUME = [
    {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}},
    {"name": "last_event_id", "in": "query", "schema": {"type": "string"}},
]


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
    job_id = {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string"}}
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
                    "parameters": [PREFER],
                    "requestBody": {
                        "required": True,
                        "content": {"multipart/form-data": {"schema": _form(components)}},
                    },
                    "responses": {
                        "202": {
                            **_json("Accepted; Location is the job", ref[JobAccepted]),
                            "headers": {"Location": {"schema": {"type": "string"}}},
                        },
                        **_problems(
                            ref,
                            ErrorCode.INVALID_REQUEST,
                            ErrorCode.UPLOAD_INCOMPLETE,
                            ErrorCode.UNSUPPORTED_MEDIA_TYPE,
                            ErrorCode.INVALID_OPTION,
                            ErrorCode.MISSING_AUDIO,
                            ErrorCode.MODEL_NOT_READY,
                            ErrorCode.MODEL_UNAVAILABLE,
                        ),
                    },
                },
                "get": {
                    "summary": "List jobs, newest first, without their segments",
                    "operationId": "listJobs",
                    "parameters": [
                        {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 50}}
                    ],
                    "responses": {
                        "200": _json("The jobs", ref[JobList]),
                        **_problems(ref, ErrorCode.INVALID_OPTION),
                    },
                },
            },
            "/jobs/{job_id}": {
                "get": {
                    "summary": "Read a job with its transcript so far",
                    "operationId": "getJob",
                    "parameters": [job_id],
                    "responses": {"200": _json("The job", ref[Job]), **_problems(ref, ErrorCode.NOT_FOUND)},
                },
                "delete": {
                    "summary": "Cancel a job that has not ended",
                    "operationId": "cancelJob",
                    "parameters": [job_id],
                    "responses": {
                        "200": _json("The cancelled job", ref[Job]),
                        **_problems(ref, ErrorCode.NOT_FOUND, ErrorCode.JOB_FINISHED),
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
                        **_problems(ref, ErrorCode.NOT_FOUND),
                    },
                }
            },
            **_model_paths(ref),
            **_webhook_paths(ref),
            **_health_paths(ref),
        },
        "components": {"schemas": components},
    }


def _model_paths(ref: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    worker = {
        "name": "worker_id",
        "in": "query",
        "schema": {"type": "string"},
        "description": "Default: the worker that is nearest to working",
    }
    force = {"name": "force", "in": "query", "schema": {"type": "boolean", "default": False}}
    status = ref[ModelStatus]
    return {
        "/model/status": {
            "get": {
                "summary": "The model's state; `offline` where no worker is alive",
                "operationId": "getModelStatus",
                "parameters": [worker],
                "responses": {
                    "200": _json("The model", status),
                    **_problems(ref, ErrorCode.BROKER_UNAVAILABLE),
                },
            }
        },
        "/model/load": {
            "post": {
                "summary": "Ask for the model; idempotent",
                "operationId": "loadModel",
                "parameters": [worker],
                "responses": {
                    "200": _json("It is ready", status),
                    "202": _json("It will be; follow /model/events", status),
                    **_problems(ref, ErrorCode.MODEL_NOT_READY),
                },
            }
        },
        "/model/unload": {
            "post": {
                "summary": "Hand the GPU back; `force=true` puts a running job back into the queue",
                "operationId": "unloadModel",
                "parameters": [worker, force],
                "responses": {
                    "200": _json("It is unloaded", status),
                    "202": _json("It is being unloaded; follow /model/events", status),
                    **_problems(ref, ErrorCode.JOB_RUNNING, ErrorCode.MODEL_NOT_READY),
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


def _webhook_paths(ref: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    webhook_id = {"name": "webhook_id", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "/webhooks": _get(
            "listWebhooks",
            "Every URL ever given as webhook_url",
            {"200": _json("The URLs", ref[WebhookList])},
        ),
        "/webhooks/{webhook_id}": {
            "delete": {
                "summary": "Forget a URL",
                "operationId": "removeWebhook",
                "parameters": [webhook_id],
                "responses": {"204": {"description": "Forgotten"}, **_problems(ref, ErrorCode.NOT_FOUND)},
            }
        },
    }


def _health_paths(ref: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    live = {"200": _json("Yes", ref[Liveness])}
    unready = {"503": _json("The broker cannot be reached", ref[Liveness])}
    return {
        "/health": _get(
            "getHealth", "GPU, queue, model, workers and broker", {"200": _json("Health", ref[Health])}
        ),
        "/health/live": _get("getLiveness", "Does this process answer?", live),
        "/health/ready": _get(
            "getReadiness", "Can it take jobs? An unloaded model counts as ready", live | unready
        ),
    }


def _get(operation: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "operationId": operation, "responses": responses}}


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
        },
    }


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problems(ref: dict[Any, dict[str, Any]], *codes: ErrorCode) -> dict[str, Any]:
    """One response per HTTP status, naming the codes that it can carry."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(HTTP_STATUS[code][0], []).append(f"`{code}`: {HTTP_STATUS[code][1]}")
    content = {"application/problem+json": {"schema": ref[Problem]}}
    return {
        str(status): {"description": "; ".join(text), "content": content}
        for status, text in by_status.items()
    }


def encoded() -> bytes:
    return msgspec.json.format(msgspec.json.encode(document(), order="deterministic")) + b"\n"


def main() -> None:
    FILE.write_bytes(encoded())
    sys.stdout.write(f"{FILE} written\n")


if __name__ == "__main__":
    main()
