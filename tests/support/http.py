"""A client as users have one: httpx and an SSE reader, none of our code."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx_sse

READY_SECS = 15
TERMINAL = ("done", "failed", "cancelled")
AUDIO = Path(__file__).parent.parent / "audio"
EXPECTED: dict[str, Any] = json.loads((AUDIO / "expected.json").read_text())


def wait_until_ready(http: httpx.Client) -> None:
    """Until the gateway is connected to its broker again."""
    deadline = time.monotonic() + READY_SECS
    while http.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline, "the gateway does not come back"
        time.sleep(0.05)


def submit(http: httpx.Client, name: str, content: bytes, **fields: str) -> str:
    response = http.post("/jobs", files={"audio": (name, content)}, data=fields)
    assert response.status_code == 202, response.text
    job_id = str(response.json()["job_id"])
    assert response.headers["Location"] == f"/jobs/{job_id}"
    return job_id


def events(http: httpx.Client, job_id: str, last_event_id: str = "") -> Iterator[httpx_sse.ServerSentEvent]:
    """The job's events up to its end."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    with httpx_sse.connect_sse(http, "GET", f"/jobs/{job_id}/stream", headers=headers) as source:
        assert source.response.status_code == 200
        yield from source.iter_sse()


def finish(http: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job as its last event tells it."""
    *_, last = events(http, job_id)
    assert last.event in TERMINAL
    return dict(json.loads(last.data)["job"])


def transcribe(http: httpx.Client, path: Path, **fields: str) -> dict[str, Any]:
    return finish(http, submit(http, path.name, path.read_bytes(), **fields))


def words(job: dict[str, Any]) -> str:
    return " ".join("".join(segment["text"] for segment in job["segments"]).split())
