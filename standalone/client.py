"""The command line's HTTP client: submit, follow, list, cancel."""

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
HEALTH_TIMEOUT_SECS = 3.0
UNLOAD_TIMEOUT_SECS = 60.0
NOT_OURS = (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED)
RECONNECTS = 10
MAY_WAIT = {"Prefer": "respond-async"}
"""The job is queued while no model is ready, instead of being refused."""


THREAD_SECS = 2.0
"""How long a call that is given up may take to notice that."""

T = TypeVar("T")


class ClientError(Exception):
    """What the server said, or that it cannot be reached."""


class GatewayClient:
    def __init__(self, url: str, direct: bool = False) -> None:
        """`direct`: past any proxy that the environment names. Raises ClientError for what is no URL."""
        self._url, self._given_up = url, threading.Event()
        try:
            self._http = httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=not direct)
        except httpx.InvalidURL as error:
            raise ClientError(f"{url} is no URL: {error}") from error

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Run a blocking call that uses this client. When it is cancelled nothing waits for a server that does not answer.

        Threads of asyncio's own pool are waited for when the process ends, however long that takes; this one is not.
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
            await asyncio.wait(
                [waiting], timeout=THREAD_SECS
            )  # its progress bar leaves the terminal in order
            if waiting.done() and not waiting.cancelled():
                waiting.exception()  # of a call that was given up: nobody else looks at it
            raise

    def is_ready(self) -> bool:
        """Whether the gateway can take jobs."""
        try:
            return self._http.get("/health/ready", timeout=HEALTH_TIMEOUT_SECS).is_success
        except httpx.TransportError:
            return False

    def submit(self, path: Path, fields: dict[str, str]) -> str:
        """The job's id. Raises ClientError."""
        with path.open("rb") as file:
            files = {"audio": (path.name, file)}
            answer = self._json("POST", "/jobs", headers=MAY_WAIT, data=fields, files=files)
        return str(answer["job_id"])

    def follow(self, job_id: str) -> Iterator[dict[str, Any]]:
        """The job's events up to its end; a broken connection is resumed. Raises ClientError."""
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
        """Raises ClientError."""
        return self._json("GET", f"/jobs/{job_id}")

    def hand_back_gpu(self) -> bool:
        """Have the model unloaded; False where no service is there. Raises ClientError where a job is in the way."""
        try:
            response = self._http.post("/model/unload")
        except httpx.TransportError:
            return False
        if response.status_code in NOT_OURS or response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return False  # another program has this port; or no worker is there
        _raise_for_problem(response)
        deadline = time.monotonic() + UNLOAD_TIMEOUT_SECS
        while self._json("GET", "/model/status")["state"] != "unloaded":
            if time.monotonic() > deadline:
                raise ClientError(f"{self._url} does not unload its model")
            time.sleep(0.2)
        return True

    def jobs(self) -> list[dict[str, Any]]:
        return list(self._json("GET", "/jobs")["jobs"])

    def cancel(self, job_id: str) -> dict[str, Any]:
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
