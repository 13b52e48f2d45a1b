"""The AsyncAPI document of everything that goes over NATS, from schemas/ and broker/topology.

AsyncAPI has no words for some of it, which is in fields that begin with `x-`: who publishes and who subscribes, which stream keeps
a subject, and the settings of streams, consumers and buckets.
"""

from typing import Any

import msgspec

from asyncapi import inner, jobs, models
from broker.settings import BrokerSettings
from broker.topology import declarations
from schemas import subjects
from schemas.version import VERSION

SETTINGS = BrokerSettings()
DESCRIPTION = (
    "Audio goes into the object store WHISPER_AUDIO, one publish makes it a job, its events tell "
    "what becomes of it. Requests that are refused are answered with Nats-Service-Error and "
    "Nats-Service-Error-Code (NATS ADR-32); the body is the problem that HTTP would answer with."
)


def document() -> dict[str, Any]:
    """Return the document."""
    channels = [*jobs.channels(), *models.channels(), *inner.channels()]
    kinds = [kind for channel in channels for kind in (channel.body, channel.reply) if kind is not None]
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "whisper-jetstream over NATS",
            "version": VERSION,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "channels": {channel.name: channel.description() for channel in channels},
        "operations": {channel.name: channel.operation() for channel in channels},
        "components": {"schemas": components},
        "x-streams": [_settings(config) for config in declarations.streams(SETTINGS)],
        "x-consumers": {
            stream: [_settings(consumer)] for stream, consumer in declarations.consumers(SETTINGS).items()
        },
        "x-buckets": _buckets(),
    }


def _buckets() -> dict[str, dict[str, str]]:
    ttl = f"{declarations.WORKER_TTL_SECS:g} s"
    return {
        "object": {
            subjects.AUDIO_BUCKET: "audio of jobs, by job id or the name that the request gives",
            subjects.RESULTS_BUCKET: "jobs that are too large for a reply, by job id",
        },
        "keyValue": {
            subjects.RECORDS_BUCKET: "a JobRecord per job that a worker has touched",
            subjects.WORKERS_BUCKET: f"a WorkerStatus per worker; gone {ttl} after its last",
            subjects.WEBHOOK_URLS_BUCKET: "a RegisteredWebhook per URL that was ever given",
            subjects.WEBHOOK_QUEUES_BUCKET: "a QueueState per URL: which gateway delivers to it, and how it went",
            subjects.IDEMPOTENCY_BUCKET: "a Claim per Idempotency-Key",
        },
    }


def _settings(config: Any) -> dict[str, Any]:
    return {name: value for name, value in sorted(config.as_dict().items()) if value is not None}


def encoded() -> bytes:
    """Return the document as JSON, with keys in a fixed order."""
    return msgspec.json.format(msgspec.json.encode(document(), order="deterministic")) + b"\n"
