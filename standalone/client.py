"""The HTTP client of the command line: submit, follow, list, cancel."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import httpx
import httpx_sse

from schemas.events import TERMINAL_TYPES

TIMEOUT = httpx.Timeout(30.0, read=None, write=None)
"""Without limits for uploads and event streams, which take as long as they take."""
HEALTH_TIMEOUT_SECS = 3.0
UNLOAD_TIMEOUT_SECS = 60.0
NOT_OURS = (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED)
"""Answers of another program on this port."""
RECONNECTS = 10
"""Attempts to resume an event stream before it counts as lost."""
MAY_WAIT = {"Prefer": "respond-async"}
"""Headers with which a job is queued, and not refused, while no model is ready."""
THREAD_SECS = 2.0
"""How long a call that was given up may take to notice that."""

T = TypeVar("T")


class ClientError(Exception):
    """The error that the server has answered, or that it cannot be reached."""


class GatewayClient:
    """A client of one gateway. All methods but `in_thread` block."""

    def __init__(self, url: str, direct: bool = False) -> None:
        """With `direct` no proxy of the environment is used. Raises ClientError for a text that is no URL."""
        self._url, self._given_up = url, threading.Event()
        try:
            self._http = httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=not direct)
        except httpx.InvalidURL as error:
            raise ClientError(f"{url} is no URL: {error}") from error

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Run a blocking call of this client in a thread. A cancellation does not wait for a server that does not answer.

        Threads of asyncio's own pool would be waited for at the end of the process, however long that takes.
        """
        outcome: Future[T] = Future()

        def run() -> None:
            outcome.set_running_or_notify_cancel()
            try:
                outcome.set_result(call())
            except Exception as error:  # noqa: BLE001 - it is raised where the outcome is waited for
                outcome.set_exception(error)

        threading.Thread(target=run, daemon=True, name="client").start()
        waiting = asyncio.wrap_future(outcome)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            self._given_up.set()
            # A short wait, so that the call's progress bar leaves the terminal in order.
            await asyncio.wait([waiting], timeout=THREAD_SECS)
            if waiting.done() and not waiting.cancelled():
                # Nobody else looks at the exception of a call that was given up.
                waiting.exception()
            raise

    def is_ready(self) -> bool:
        """Whether the gateway can take jobs."""
        try:
            return self._http.get("/health/ready", timeout=HEALTH_TIMEOUT_SECS).is_success
        except httpx.TransportError:
            return False

    def submit(self, path: Path, fields: dict[str, str]) -> str:
        """Submit a file with these form fields, and return the id of the job. Raises ClientError."""
        with path.open("rb") as file:
            files = {"audio": (path.name, file)}
            answer = self._json("POST", "/jobs", headers=MAY_WAIT, data=fields, files=files)
        return str(answer["job_id"])

    def follow(self, job_id: str) -> Iterator[dict[str, Any]]:
        """Yield the events of a job up to its end. A broken connection is resumed. Raises ClientError."""
        last, broken = "", 0
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            try:
                with httpx_sse.connect_sse(
                    self._http, "GET", f"/jobs/{job_id}/stream", headers=headers
                ) as source:
                    _raise_for_problem(source.response)
                    for event in source.iter_sse():
                        last, broken = event.id or last, 0
                        yield json.loads(event.data)
                        if event.event in TERMINAL_TYPES:
                            return
            except httpx.TransportError as error:
                broken += 1
                if broken > RECONNECTS or self._given_up.wait(min(5.0, 0.2 * 2**broken)):
                    raise ClientError(f"the connection to {self._url} is lost: {error}") from error

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job. Raises ClientError."""
        return self._json("GET", f"/jobs/{job_id}")

    def hand_back_gpu(self) -> bool:
        """Have the model unloaded, and wait for that. Returns False where there is no service.

        Raises ClientError where a job prevents it.
        """
        try:
            response = self._http.post("/model/unload")
        except httpx.TransportError:
            return False
        if response.status_code in NOT_OURS or response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            # Another program has this port, or there is no worker.
            return False
        _raise_for_problem(response)
        deadline = time.monotonic() + UNLOAD_TIMEOUT_SECS
        while self._json("GET", "/model/status")["state"] != "unloaded":
            if time.monotonic() > deadline:
                raise ClientError(f"{self._url} does not unload its model")
            time.sleep(0.2)
        return True

    def jobs(self) -> list[dict[str, Any]]:
        """Return the newest jobs. Raises ClientError."""
        return list(self._json("GET", "/jobs")["jobs"])

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel a job and return it. Raises ClientError."""
        return self._json("DELETE", f"/jobs/{job_id}")

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise ClientError(f"nothing answers at {self._url}: {error}") from error
        _raise_for_problem(response)
        return dict(response.json())


def _raise_for_problem(response: httpx.Response) -> None:
    if response.is_error:
        response.read()
        try:
            detail = response.json()["detail"]
        except (ValueError, KeyError):
            detail = response.text[:200]
        raise ClientError(f"{response.status_code}: {detail}")
