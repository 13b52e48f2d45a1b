"""Following and steering the model over HTTP, as users do."""

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import httpx_sse

from tests.support.http import AUDIO

TIMEOUT_SECS = 30
TELEPHONE = AUDIO / "telephone.wav"
REFUSE = {"JOBS_WHEN_UNLOADED": "refuse"}
ASYNC = {"Prefer": "respond-async"}


def post(http: httpx.Client, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
    """Submit a short file, whatever the answer."""
    files = {"audio": ("t.wav", TELEPHONE.read_bytes())}
    return http.post("/jobs", files=files, data=fields, headers=headers or {})


def status(http: httpx.Client) -> dict[str, Any]:
    return dict(http.get("/model/status").json())


def wait_for_worker(http: httpx.Client) -> None:
    """The gateway has heard of the one that was just started."""
    seen = ModelEvents(str(http.base_url))
    if seen.wait_for("model_status")["state"] == "offline":
        seen.wait_for("model_unloaded")


def load(http: httpx.Client) -> dict[str, Any]:
    """The model when it is ready."""
    with following(http) as seen:
        assert http.post("/model/load").status_code in (200, 202)
        now = status(http)
        return now if now["state"] == "ready" else seen.wait_for("model_ready")


def unload(http: httpx.Client) -> dict[str, Any]:
    """The model when it is gone."""
    with following(http) as seen:
        assert http.post("/model/unload").status_code == 202
        return seen.wait_for("model_unloaded")


class ModelEvents:
    """The gateway's /model/events, read in a thread."""

    def __init__(self, url: str, last_event_id: str = "") -> None:
        """Read until the gateway ends the stream, at the latest when it stops."""
        self._events: queue.Queue[httpx_sse.ServerSentEvent] = queue.Queue()
        self._http, self._last = httpx.Client(base_url=url), last_event_id
        self.seen: list[httpx_sse.ServerSentEvent] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        headers = {"Last-Event-ID": self._last} if self._last else {}
        try:
            with httpx_sse.connect_sse(
                self._http, "GET", "/model/events", headers=headers, timeout=None
            ) as source:
                for event in source.iter_sse():
                    self._events.put(event)
        except (
            httpx.TransportError
        ) as error:  # the gateway is gone: whoever waits for more sees that nothing comes
            print(f"model events end: {error!r}")
        finally:
            self._http.close()

    def wait_for(self, name: str) -> dict[str, Any]:
        """The model as the next event of this name tells it."""
        while True:
            event = self._events.get(timeout=TIMEOUT_SECS)
            self.seen.append(event)
            if event.event == name:
                return dict(json.loads(event.data)["model"])

    def names(self) -> list[str]:
        return [event.event for event in self.seen]


@contextmanager
def following(http: httpx.Client) -> Iterator[ModelEvents]:
    """Events from now on: the first, `model_status`, has been read when this begins."""
    events = ModelEvents(str(http.base_url))
    events.wait_for("model_status")
    yield events
