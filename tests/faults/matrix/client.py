"""A client as users have one: it sends slowly, sends again with the same Idempotency-Key, and follows its jobs."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import httpx
import httpx_sse

from tests.faults.matrix.checking import TERMINAL, Heard
from tests.faults.matrix.recordings import Recording

RETRY_SECS = 0.5
READ_SECS = 60.0
GIVE_UP_SECS = 100.0
"""An idempotency key whose gateway was killed is free again after 30 s (schemas/idempotency.py)."""
PIECE = 64 * 1024
ASK_SECS = 0.25
TRY_AGAIN = frozenset({409, 429, 500, 502, 503, 504})
"""500 too: that a fault makes one is a bug, which the logs show; the client's job must not be lost by it."""


class SlowBody:
    """A multipart body whose second half waits for `go`."""

    def __init__(self, name: str, audio: bytes, fields: dict[str, str], go: threading.Event) -> None:
        self._boundary, self._go = uuid.uuid4().hex, go
        parts = [
            f'--{self._boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in fields.items()
        ]
        parts.append(
            f'--{self._boundary}\r\nContent-Disposition: form-data; name="audio"; filename="{name}"\r\n\r\n'
        )
        self._head, self._audio = "".join(parts).encode(), audio
        self._tail = f"\r\n--{self._boundary}--\r\n".encode()

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self._boundary}"

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        half = len(self._audio) // 2
        for start in range(0, len(self._audio), PIECE):
            if start >= half:
                self._go.wait(GIVE_UP_SECS)
            yield self._audio[start : start + PIECE]
        yield self._tail


class Follower(threading.Thread):
    """Follows a job to its end, through any number of connections, each resumed with Last-Event-ID."""

    def __init__(self, url: Callable[[], str], job: str) -> None:
        super().__init__(daemon=True)
        self._url, self.job = url, job
        self.seen: list[str] = []
        """Name and id of each event."""
        self._last, self.over = "", threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self._follow()
            except (httpx.HTTPError, httpx_sse.SSEError) as error:
                print(f"following {self.job} again: {error!r}")
            self.over.wait(RETRY_SECS)

    def _follow(self) -> None:
        headers = {"Last-Event-ID": self._last} if self._last else {}
        url = f"{self._url()}/jobs/{self.job}/stream"
        with (
            httpx.Client(timeout=READ_SECS) as http,
            httpx_sse.connect_sse(http, "GET", url, headers=headers) as source,
        ):
            if source.response.status_code == 204:  # there is nothing behind what was seen
                self.over.set()
            if source.response.status_code != 200:
                return
            for event in source.iter_sse():
                self._last = event.id or self._last
                self.seen.append(f"{event.event} {event.id}")
                if event.event in TERMINAL:
                    self.over.set()
                    return


class Submission(threading.Thread):
    """One job, submitted until it is accepted and then followed. `job` is its id; `trouble` says why there is none."""

    def __init__(
        self,
        url: Callable[[], str],
        recording: Recording,
        fields: dict[str, str],
        *,
        slowly: bool = False,
        follow: bool = True,
    ) -> None:
        """`follow`: somebody wants to see this job's events, from its first to its last."""
        super().__init__(daemon=True)
        self._url, self.recording, self._follow = url, recording, follow
        self.follower: Follower | None = None
        self._fields, self._key = fields, uuid.uuid4().hex
        self.go = threading.Event()
        if not slowly:
            self.go.set()
        self.job, self.trouble, self.refused = "", "", 0

    def run(self) -> None:
        deadline = time.monotonic() + GIVE_UP_SECS
        while time.monotonic() < deadline:
            wait = self._try()
            if wait is None:
                self._follow_it()
                return
            self.refused += 1
            print(f"{time.time():.1f} a submission is sent again: {self.trouble}")
            time.sleep(wait)  # as Retry-After asks
        self.trouble = f"not accepted within {GIVE_UP_SECS:g} s: {self.trouble}"

    def _follow_it(self) -> None:
        if self._follow and self.job:
            self.follower = Follower(self._url, self.job)
            self.follower.start()

    def wait(self) -> str:
        """The job's id. Raises RuntimeError."""
        self.join(GIVE_UP_SECS + READ_SECS)
        if not self.job:
            raise RuntimeError(f"{self.recording.name}: {self.trouble}")
        return self.job

    def _try(self) -> float | None:
        """None when there is an answer that is final, else the seconds to wait."""
        body = SlowBody(self.recording.name, self.recording.content(), self._fields, self.go)
        headers = {"Idempotency-Key": self._key, "Content-Type": body.content_type}
        try:
            answer = httpx.post(f"{self._url()}/jobs", content=body, headers=headers, timeout=READ_SECS)
        except httpx.HTTPError as error:
            self.trouble = repr(error)
            return RETRY_SECS
        if answer.status_code in (200, 202):
            self.job, self.trouble = str(answer.json()["job_id"]), ""
            return None
        self.trouble = f"{answer.status_code} {answer.text}"
        return RETRY_SECS if answer.status_code in TRY_AGAIN else None


def heard(url: str, job: str) -> Heard:
    """The job as the gateway gives it. Raises httpx.HTTPError."""
    answer = httpx.get(f"{url}/jobs/{job}", timeout=READ_SECS)
    answer.raise_for_status()
    told = answer.json()
    return Heard(
        status=told["status"],
        text=" ".join("".join(s["text"] for s in told["segments"]).split()),
        segments=[(s["start"], s["end"]) for s in told["segments"]],
        error=json.dumps(told["error"]) if told["error"] else "",
    )


class Meanwhile:
    """Clients that do not stop because something breaks: one that submits, and one that asks a question again and again."""

    def __init__(self, url: Callable[[], str], submit: Callable[[], object], submissions: int) -> None:
        self._url, self._submit, self._submissions = url, submit, submissions
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._ask, self._send)]
        self.asked, self.unanswered, self.longest_silence = 0, 0, 0.0
        """Seconds between two answers."""

    def __enter__(self) -> "Meanwhile":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(READ_SECS)

    def _ask(self) -> None:
        answered_at = time.monotonic()
        while not self._over.wait(ASK_SECS):
            self.asked += 1
            try:
                httpx.get(f"{self._url()}/jobs", params={"limit": 1}, timeout=READ_SECS).raise_for_status()
            except httpx.HTTPError as error:
                self.unanswered += 1
                print(f"unanswered: {error!r}")
                continue
            now = time.monotonic()
            self.longest_silence, answered_at = max(self.longest_silence, now - answered_at), now

    def _send(self) -> None:
        for _ in range(self._submissions):
            self._submit()
            self._over.wait(ASK_SECS)
