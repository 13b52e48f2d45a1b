"""Write the JSON Schema of every message into schemas/json: `python -m schemas.export`."""

import sys
from pathlib import Path
from typing import Any

import msgspec

from schemas import errors, events, jobs, model, webhooks

FOLDER = Path(__file__).parent / "json"

EXPORTED: dict[str, Any] = {
    "job_request": jobs.JobRequest,
    "job_record": jobs.JobRecord,
    "job": jobs.Job,
    "job_event": events.JobEvent,
    "model_status": model.ModelStatus,
    "model_event": model.ModelEvent,
    "unload_request": model.UnloadRequest,
    "worker_status": model.WorkerStatus,
    "health": model.Health,
    "webhook": webhooks.Webhook,
    "webhook_delivery": webhooks.WebhookDelivery,
    "problem": errors.Problem,
}


def documents() -> dict[str, bytes]:
    """Return the documents: file name to content."""
    return {
        f"{name}.json": msgspec.json.format(msgspec.json.encode(msgspec.json.schema(kind), order="sorted"))
        + b"\n"
        for name, kind in EXPORTED.items()
    }


def main() -> None:
    """Replace all files of the folder."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.json"):
        old.unlink()
    for name, content in documents().items():
        (FOLDER / name).write_bytes(content)
    sys.stdout.write(f"{len(EXPORTED)} schemas written to {FOLDER}\n")


if __name__ == "__main__":
    main()
