"""The OpenAPI document, generated from the schemas: `python -m gateway.openapi` writes docs/openapi.json."""

import sys
from pathlib import Path
from typing import Any

import msgspec

from gateway.upload import AUDIO_FIELD
from schemas.errors import HTTP_STATUS, ErrorCode, Problem
from schemas.jobs import Job, JobAccepted, JobList, TranscribeOptions
from schemas.model import Health

FILE = Path(__file__).parent.parent / "docs" / "openapi.json"
VERSION = "0.1.0"
STREAM_TEXT = (
    "Server-sent events: `queued`, `started`, `progress`, `segment`, then one of `done`, `failed`, `cancelled`, which "
    "ends the stream and carries the job. Everything that has already happened comes first. `id` is the position: "
    "send it as `Last-Event-ID` (or `?last_event_id=`) to go on behind it."
)


def document() -> dict[str, Any]:
    kinds = [Job, JobAccepted, JobList, TranscribeOptions, Health, Problem]
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
                    "operationId": "submitJob",
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
                        {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}},
                        {"name": "last_event_id", "in": "query", "schema": {"type": "string"}},
                    ],
                    "responses": {
                        "200": {"description": "The events", "content": {"text/event-stream": {}}},
                        **_problems(ref, ErrorCode.NOT_FOUND),
                    },
                }
            },
            "/health": {
                "get": {
                    "summary": "Workers, model and queue",
                    "operationId": "getHealth",
                    "responses": {
                        "200": _json("Health", ref[Health]),
                        **_problems(ref, ErrorCode.BROKER_UNAVAILABLE),
                    },
                }
            },
        },
        "components": {"schemas": components},
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
