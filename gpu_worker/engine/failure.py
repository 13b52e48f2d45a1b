"""Why an engine process is gone, and whose fault that is. Pure."""

from enum import StrEnum

from gpu_worker.blame import CANNOT_START, Failure, Fault, was_sent_away


class FailureKind(StrEnum):
    """What has happened to an engine process."""

    LOAD_FAILED = "load_failed"
    """The library refuses the model."""
    CRASHED = "crashed"
    """The engine has ended by itself: an abort, a segmentation fault, an exit."""
    KILLED = "killed"
    """Somebody else, or the kernel, has ended it. That says nothing about the engine or the job."""
    NOT_STARTED = "not_started"
    """There is no such program, or a library of it is missing."""
    STALLED = "stalled"
    """It has said nothing for longer than the setting ENGINE_STALL_SECS."""
    PROTOCOL = "protocol"
    """It has sent what is no reply of gpu_worker/engine/protocol.py."""


class EngineFailure(Failure):
    """The engine process is gone, for this reason."""

    def __init__(self, kind: FailureKind, detail: str, stderr: list[str]) -> None:
        """`stderr` is the last lines that the engine has written there."""
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail, self.stderr = kind, detail, stderr
        is_machines = kind in (FailureKind.KILLED, FailureKind.NOT_STARTED)
        self.fault = Fault.MACHINE if is_machines else Fault.FILE


def kind_of_death(exit_status: int | None) -> FailureKind:
    """Return what an exit status says. None: the pipe is closed but the process still runs. Negative: a signal."""
    if exit_status is None:
        return FailureKind.CRASHED
    if exit_status in CANNOT_START:
        return FailureKind.NOT_STARTED
    return FailureKind.KILLED if was_sent_away(exit_status) else FailureKind.CRASHED


def death_in_words(exit_status: int | None) -> str:
    """Return the sentence for an exit status; None as in `kind_of_death`."""
    if exit_status is None:
        return "the engine closed its pipe"
    if exit_status < 0:
        return f"the engine was ended by signal {-exit_status}"
    return f"the engine exited with status {exit_status}"
