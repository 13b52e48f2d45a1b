"""The OpenAPI document, assembled from the description of each area and the schemas."""

from typing import Any

import msgspec

from gateway.openapi import health, jobs, model, webhooks
from schemas.errors import Problem
from schemas.jobs import Job, JobAccepted, JobList, TranscribeOptions
from schemas.model import Health, Liveness, ModelStatus
from schemas.version import VERSION
from schemas.webhooks import WebhookList

KINDS = (
    Job,
    JobAccepted,
    JobList,
    TranscribeOptions,
    ModelStatus,
    Health,
    Liveness,
    WebhookList,
    Problem,
)
"""Structs that the descriptions refer to."""


def document() -> dict[str, Any]:
    """Return the document. Every route is in it, which tests/contract/test_generated.py checks."""
    schemas, components = msgspec.json.schema_components(KINDS, ref_template="#/components/schemas/{name}")
    ref = dict(zip(KINDS, schemas, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "whisper-jetstream",
            "version": VERSION,
            "description": "Send audio, watch it become text live.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            **jobs.paths(ref, components),
            **model.paths(ref),
            **webhooks.paths(ref),
            **health.paths(ref),
        },
        "components": {"schemas": components},
    }


def encoded() -> bytes:
    """Return the document as JSON, with keys in a fixed order."""
    return msgspec.json.format(msgspec.json.encode(document(), order="deterministic")) + b"\n"
