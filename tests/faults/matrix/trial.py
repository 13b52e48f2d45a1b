"""One cell, played: bring jobs into the phase, strike, wait until everything is done and told, and write down the facts."""

import queue
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import httpx
import psutil

from tests.faults.matrix import recordings
from tests.faults.matrix.cells import QUEUE, Cell, Phase
from tests.faults.matrix.checking import Facts, Spoken
from tests.faults.matrix.client import Follower, Meanwhile, Submission, heard
from tests.faults.matrix.phases import MEANWHILE, reach
from tests.faults.matrix.server_stage import ServerStage
from tests.faults.matrix.stage import Stage
from tests.faults.matrix.striking import strike, strike_cluster
from tests.faults.matrix.view import AWAY, View
from tests.support.receiver import Receiver

T = TypeVar("T")
RECOVERY_SECS = 60
KEY_SECS = 40
"""An idempotency key whose gateway was killed in the upload is not free before."""
JOB_SECS = 2
"""A generous time for each job of a long queue."""
TOLD = frozenset({"completed", "failed", "cancelled"})
MISHAPS = (*AWAY, httpx.HTTPError, psutil.Error, subprocess.TimeoutExpired, RuntimeError, ValueError)
"""What a broken product makes of a trial."""


class Trial:
    def __init__(self, cell: Cell, stage: Stage) -> None:
        self.cell, self.stage = cell, stage
        self.view = View(stage.nats_urls)
        refuses_first = cell.phase is Phase.WEBHOOK
        self._receiver = Receiver(lambda number: 503 if refuses_first and number == 1 else 204)
        self.to_refuse = 1 if refuses_first else 0
        self._submissions: list[Submission] = []
        self._posts: list[tuple[str, str]] = []
        self.gate = stage.folder / "gate" / "hold"
        self._signal_at = 0.0
        self._swept, self._left = 0, dict[str, int]()
        self._trouble: list[str] = []
        self._meanwhile: Meanwhile | None = None

    def run(self) -> Facts:
        """Everything, but for the end of the processes. What goes wrong becomes `trouble`."""
        recovered: float | None = None
        try:
            reach(self)
            self._strike()
            deadline = self._signal_at + RECOVERY_SECS + self._extra_secs()
            recovered = self._recovered(deadline)
            self.submit(recordings.SHORT)  # and what comes afterwards is done as ever
            self._recovered(time.time() + RECOVERY_SECS)
        except MISHAPS as error:
            self._trouble.append(f"{type(error).__name__}: {error}")
        return self._facts(recovered)

    def close(self) -> None:
        for follower in self._followers():
            follower.over.set()
        self._receiver.close()
        self.view.close()

    # -- the fault

    def _strike(self) -> None:
        if isinstance(self.stage, ServerStage) and self.stage.cluster is not None:
            self._signal_at = time.time()
            more = MEANWHILE if self.cell.phase is Phase.QUEUE else 0
            with Meanwhile(self.stage.url, self._submit_unfollowed, more) as self._meanwhile:
                strike_cluster(self.stage.cluster, self.view, self.cell.fault, self._signalled)
            return
        # Noted before the signal goes: what ends later has been met by it.
        self._signal_at = time.time()
        strike(self.stage, self.cell, self._signalled)

    def _signalled(self) -> None:
        self.gate.unlink(missing_ok=True)
        for submission in self._submissions:
            submission.go.set()
        if isinstance(self.stage, ServerStage) and self.stage.proxy is not None:
            self.stage.proxy.release()

    def _extra_secs(self) -> float:
        if self.cell.phase is Phase.QUEUE:
            return QUEUE * JOB_SECS
        return KEY_SECS if self.cell.phase is Phase.UPLOADING else 0

    # -- and what follows

    def submit(
        self, recording: recordings.Recording, slowly: bool = False, follow: bool = True
    ) -> Submission:
        fields = {"webhook_url": self._receiver.url}
        submission = Submission(self.stage.url, recording, fields, slowly=slowly, follow=follow)
        submission.start()
        self._submissions.append(submission)
        return submission

    def _submit_unfollowed(self) -> Submission:
        return self.submit(recordings.SHORT, follow=False)

    def _jobs(self) -> dict[str, Spoken]:
        return {s.job: s.recording.spoken for s in self._submissions if s.job}

    def _followers(self) -> list[Follower]:
        return [s.follower for s in self._submissions if s.follower is not None]

    def _recovered(self, deadline: float) -> float | None:
        """Seconds from the signal until nothing is open any more; None where that is not before `deadline`."""
        open_ = ["?"]
        while time.time() < deadline:
            try:
                open_ = self._open()
            except (*AWAY, httpx.HTTPError) as error:
                open_ = [repr(error)]
            if not open_:
                return time.time() - self._signal_at
            time.sleep(0.02)
        print(f"still open: {open_}")
        return None

    def _open(self) -> list[str]:
        """What is not done, not told or not tidied up yet."""
        if waiting := [s.trouble or "is being sent" for s in self._submissions if not s.job]:
            return waiting
        jobs = self._jobs()
        if missing := jobs.keys() - self.view.ended():
            return [f"{job} has not ended" for job in missing]
        if missing := jobs.keys() - {job for _, job in self.told()}:
            return [f"the end of {job} is not told" for job in missing]
        if behind := [f.job for f in self._followers() if not f.over.is_set()]:
            return [f"who follows {job} has not seen its end" for job in behind]
        self._left = self.view.left()
        if self._left["audio"] and self.cell.phase in (Phase.UPLOADING, Phase.QUEUE):
            self._swept += self.view.sweep()
        httpx.get(f"{self.stage.url()}/health/ready").raise_for_status()
        return [f"{count} left in {where}" for where, count in self._left.items() if count]

    def told(self) -> list[tuple[str, str]]:
        """Webhook id and job of what the receiver has taken so far."""
        while True:
            try:
                headers, body = self._receiver.posts.get_nowait()
            except queue.Empty:
                return self._posts
            if body["type"] not in TOLD:
                continue
            if self.to_refuse:
                self.to_refuse -= 1
            else:
                self._posts.append((headers["webhook-id"], body["id"]))

    def _facts(self, recovered: float | None) -> Facts:
        facts = Facts(
            signal_at=self._signal_at, recovered_secs=recovered, spoken=self._jobs(), swept=self._swept
        )
        facts.trouble = self._trouble
        facts.refused = sum(s.refused for s in self._submissions)
        facts.trouble += [f"a submission: {s.trouble}" for s in self._submissions if not s.job]
        if self._meanwhile is not None:
            facts.refused += self._meanwhile.unanswered
            facts.longest_silence = round(self._meanwhile.longest_silence, 1)
        facts.posts, facts.left = [*self.told()], self._left
        facts.streams = {follower.job: [*follower.seen] for follower in self._followers()}
        facts.records = self._read(self.view.records, {}, facts)
        facts.events = self._read(self.view.events, [], facts)
        for job in facts.spoken:
            if (answer := self._read(partial(heard, self.stage.url(), job), None, facts)) is not None:
                facts.heard[job] = answer
        return facts

    def _read(self, read: Callable[[], T], instead: T, facts: Facts) -> T:
        """What cannot be read is told as trouble."""
        try:
            return read()
        except (*AWAY, httpx.HTTPError) as error:
            facts.trouble.append(f"at the end: {error!r}")
            return instead
