"""The description of the routes under /jobs (gateway/routes/jobs.py)."""

from typing import Any

import msgspec

from gateway.formats.registry import FORMATS
from gateway.openapi.parts import REFERENCE, RESUME, Refs, header, json_body, path_parameter, problems, query
from gateway.operations.held_key import KEY_HEADER
from gateway.operations.listing import LIMIT_DEFAULT, LIMIT_MAX
from gateway.upload.kind import FORM, OCTETS
from gateway.upload.pieces import AUDIO_FIELD
from gateway.upload.query import FILENAME
from schemas.errors import ErrorCode
from schemas.jobs import DEFAULT_WEBHOOK_EVENTS, Job, JobAccepted, JobList, JobStatus, WebhookEvent
from schemas.options import TranscribeOptions

STREAM_TEXT = (
    "Server-sent events: `queued`, `started`, `progress`, `segment`, then one of `done`, `failed`, `cancelled`, which "
    "ends the stream and carries the job. Everything that has already happened comes first; where some of that is pruned "
    "already, a `snapshot` of the job stands for it. `id` is the position: send it as `Last-Event-ID` (or "
    "`?last_event_id=`) to go on behind it. Who has seen the end gets 204."
)
SUBMIT_TEXT = (
    "While no model is ready the answer is 503 with Retry-After, before the body is read (and before `100 Continue`), and a load is "
    "asked for. "
    "`Prefer: respond-async`, or JOBS_WHEN_UNLOADED=queue at the gateway, queues the job instead."
)
RAW = ("audio/*", "video/*", OCTETS)
"""Types of a body that is the audio itself."""
PREFER = header("Prefer", "Queue the job where no model is ready", "respond-async")
ONCE = header(KEY_HEADER, "The same key with the same content is the same job, whichever gateway it comes to")
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


def paths(ref: Refs) -> dict[str, Any]:
    """Return the description of the routes in gateway/routes/jobs.py."""
    job_id = path_parameter("job_id")
    return {
        "/jobs": {
            "post": {
                "summary": "Submit audio",
                "description": SUBMIT_TEXT,
                "operationId": "submitJob",
                "parameters": [PREFER, ONCE, *_query()],
                "requestBody": {
                    "required": True,
                    "content": {FORM: {"schema": _form()}, **{kind: {} for kind in RAW}},
                },
                "responses": {
                    "200": json_body("This Idempotency-Key is that of a job that is here", ref[JobAccepted]),
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
                    "200": {"description": "The job", "content": _formats(ref)},
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
    }


def _formats(ref: Refs) -> dict[str, Any]:
    """A job in each format; only JSON has a schema."""
    return {f.media_type: {"schema": ref[Job]} if f is FORMATS[0] else {} for f in FORMATS}


def _options() -> dict[str, Any]:
    """Each option with its schema. They are the same in a form and in the query."""
    components = msgspec.json.schema_components([TranscribeOptions], ref_template=REFERENCE)[1]
    return {
        **components["TranscribeOptions"]["properties"],
        "webhook_url": {"type": "string", "format": "uri"},
        "webhook_events": {
            "type": "string",
            "description": f"Some of {', '.join(WebhookEvent)}, divided by commas",
            "default": ",".join(DEFAULT_WEBHOOK_EVENTS),
        },
    }


def _query() -> list[dict[str, Any]]:
    named = query(FILENAME, {"type": "string"}, "Name of the file, where the body is the audio itself")
    told = "As in a form; not both with different values"
    return [named, *(query(name, schema, told) for name, schema in _options().items())]


def _form() -> dict[str, Any]:
    """The options are form fields beside the audio."""
    return {
        "type": "object",
        "required": [AUDIO_FIELD],
        "properties": {
            AUDIO_FIELD: {
                "type": "string",
                "contentMediaType": OCTETS,
                "format": "binary",
            },
            **_options(),
        },
    }
