"""The OpenAPI document, assembled from the description of each area and the schemas."""

from typing import Any

import msgspec

from gateway.openapi import health, jobs, model, webhooks
from gateway.openapi.parts import REFERENCE, Refs
from schemas.version import VERSION


def document() -> dict[str, Any]:
    """Return the document. Every route is in it, which tests/contract/test_generated.py checks."""
    ref = Refs()
    paths = {**jobs.paths(ref), **model.paths(ref), **webhooks.paths(ref), **health.paths(ref)}
    _, components = msgspec.json.schema_components(ref.kinds, ref_template=REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "whisper-jetstream",
            "version": VERSION,
            "description": "Send audio, watch it become text live.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def encoded() -> bytes:
    """Return the document as JSON, with keys in a fixed order."""
    return msgspec.json.format(msgspec.json.encode(document(), order="deterministic")) + b"\n"
