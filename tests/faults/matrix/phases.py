"""How a trial comes into each phase, and what proves that it has."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx

from tests.faults.matrix import recordings
from tests.faults.matrix.cells import QUEUE, Part, Phase
from tests.faults.matrix.checking import TERMINAL
from tests.faults.matrix.server_stage import ServerStage
from tests.faults.matrix.stage import WORDS, children_named
from tests.faults.matrix.view import wait_until

if TYPE_CHECKING:
    from tests.faults.matrix.trial import Trial

PHASE_SECS = 40
MEANWHILE = 10
"""Of the long queue's jobs, those that are submitted during the fault."""


def reach(trial: "Trial") -> None:
    """Come into the phase of the trial's cell. Raises TimeoutError, RuntimeError, httpx.HTTPError."""
    wait_until(lambda: bool(_health(trial)["workers"]), PHASE_SECS, "a worker")
    WAYS[trial.cell.phase](trial)


def _uploading(trial: "Trial") -> None:
    trial.submit(recordings.LARGE, slowly=True)
    wait_until(lambda: trial.view.left()["audio"] > 0, PHASE_SECS, "the first chunk")


def _queued(trial: "Trial") -> None:
    trial.gate.touch()
    for _ in range(2 * len(trial.stage.workers()) + 1):
        trial.submit(recordings.SHORT).wait()
    _wait_for_held_engine(trial)
    wait_until(lambda: trial.view.undelivered() > 0, PHASE_SECS, "a job that nobody has in hand")


def _preparing(trial: "Trial") -> None:
    if trial.cell.part is Part.ENGINE:  # there is one only if the model was wanted before
        httpx.post(f"{trial.stage.url()}/model/load").raise_for_status()
        trial.view.wait_until(lambda said: said[0].endswith(".model_ready"), PHASE_SECS, "a model")
    trial.submit(recordings.SHORT).wait()
    wait_until(lambda: any(children_named(trial.stage.workers(), WORDS[Part.DECODER])), PHASE_SECS, "decoder")


def _loading(trial: "Trial") -> None:
    trial.gate.touch()
    trial.submit(recordings.SHORT).wait()
    _wait_for_held_engine(trial)


def _transcribing(trial: "Trial") -> None:
    job = trial.submit(recordings.LONG).wait()
    trial.view.wait_for(job, "segment", PHASE_SECS)


def _ending(trial: "Trial") -> None:
    proxy = trial.stage.proxy if isinstance(trial.stage, ServerStage) else None
    if proxy is None:
        job = trial.submit(recordings.SHORT).wait()
        trial.view.wait_for(job, "done", PHASE_SECS)
        return
    proxy.hold(_is_end if trial.cell.phase is Phase.ENDING else _is_ack)
    trial.submit(recordings.SHORT).wait()
    if not proxy.held.wait(PHASE_SECS):
        raise TimeoutError("the worker never came to the end")


def _webhook(trial: "Trial") -> None:
    trial.submit(recordings.SHORT).wait()

    def is_refused() -> bool:
        trial.told()
        return trial.to_refuse == 0

    wait_until(is_refused, PHASE_SECS, "the first try")
    wait_until(lambda: trial.view.left()["webhooks"] > 0, PHASE_SECS, "a delivery that waits")


def _queue(trial: "Trial") -> None:
    waiting = [trial.submit(recordings.SHORT, follow=False) for _ in range(QUEUE - MEANWHILE)]
    for submission in waiting:
        submission.wait()
    trial.view.wait_until(lambda said: said[0].endswith(".done"), PHASE_SECS, "the first that is done")


WAYS: dict[Phase, Callable[["Trial"], None]] = {
    Phase.UPLOADING: _uploading,
    Phase.QUEUED: _queued,
    Phase.PREPARING: _preparing,
    Phase.LOADING: _loading,
    Phase.TRANSCRIBING: _transcribing,
    Phase.ENDING: _ending,
    Phase.ACKING: _ending,
    Phase.WEBHOOK: _webhook,
    Phase.QUEUE: _queue,
}


def _health(trial: "Trial") -> dict[str, object]:
    return dict(httpx.get(f"{trial.stage.url()}/health").json())


def _wait_for_held_engine(trial: "Trial") -> None:
    wait_until(lambda: any(trial.gate.parent.glob("held-*")), PHASE_SECS, "an engine at the gate")


def _is_end(subject: str, _body: bytes) -> bool:
    """The terminal event: the record says it already."""
    return subject.startswith("whisper.events.job.") and subject.rsplit(".", 1)[-1] in TERMINAL


def _is_ack(subject: str, body: bytes) -> bool:
    """Of a job; signs of life and jobs that are put back have words of their own."""
    return subject.startswith("$JS.ACK.") and "WHISPER_JOBS" in subject and body.strip() in (b"", b"+ACK")
