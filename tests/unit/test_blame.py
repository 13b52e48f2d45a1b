"""Whose fault a failure is: every kind of failure, and how long the worker and the job then wait."""

import errno
import signal

import pytest

from broker.errors import (
    BrokerError,
    Conflict,
    ObjectCorrupt,
    ObjectMissing,
    Refused,
    StorageFull,
    SubjectFull,
    TooLarge,
    Unavailable,
)
from gpu_worker.audio.decoding import DecodeError
from gpu_worker.audio.vad import MissingModel
from gpu_worker.blame import (
    MAX_PAUSE_SECS,
    Fault,
    MachineTrouble,
    fault_of,
    fault_of_exit,
    in_words,
    job_delay_secs,
    pause_secs,
)
from gpu_worker.engine.failure import EngineFailure, FailureKind
from schemas.errors import ErrorCode, JobError

OWN = {"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"}


@pytest.mark.parametrize("sig", list(signal.Signals), ids=lambda s: s.name)
def test_a_signal_is_the_jobs_only_where_a_process_raises_it_itself(sig: signal.Signals) -> None:
    assert fault_of_exit(-sig) is (Fault.FILE if sig.name in OWN else Fault.MACHINE)


@pytest.mark.parametrize("status", range(1, 256))
def test_an_exit_status_is_the_machines_only_where_nothing_was_started(status: int) -> None:
    assert fault_of_exit(status) is (Fault.MACHINE if status in (126, 127) else Fault.FILE)


def engine(kind: FailureKind) -> EngineFailure:
    return EngineFailure(kind, "x", [])


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (DecodeError(JobError(code=ErrorCode.AUDIO_UNDECODABLE, message="x")), Fault.FILE),
        (ObjectMissing(), Fault.FILE),
        (ObjectCorrupt(), Fault.FILE),
        (Refused(), Fault.FILE),
        (TooLarge(), Fault.FILE),
        (Conflict(), Fault.FILE),
        (BrokerError(), Fault.FILE),
        (KeyError("a bug"), Fault.FILE),
        (RecursionError(), Fault.FILE),
        *((engine(kind), Fault.FILE) for kind in FailureKind if kind not in ("killed", "not_started")),
        (engine(FailureKind.KILLED), Fault.MACHINE),
        (engine(FailureKind.NOT_STARTED), Fault.MACHINE),
        (MachineTrouble("x"), Fault.MACHINE),
        (MissingModel("x"), Fault.MACHINE),
        (MemoryError(), Fault.MACHINE),
        *((OSError(number, "x"), Fault.MACHINE) for number in errno.errorcode),
        (Unavailable(), Fault.BROKER),
        (StorageFull(), Fault.BROKER),
        (SubjectFull(), Fault.BROKER),
    ],
    ids=repr,
)
def test_whose_fault_it_is(error: Exception, fault: Fault) -> None:
    assert fault_of(error) is fault


def test_pauses_grow_to_a_limit() -> None:
    assert [pause_secs(n) for n in (1, 2, 3)] == [1.0, 2.0, 4.0]
    assert pause_secs(10_000) == MAX_PAUSE_SECS


def test_a_job_goes_back_at_once_and_then_waits_longer_than_the_worker() -> None:
    """Else a job that is too large for this machine would be the next one again, before all others."""
    assert job_delay_secs(1) == 0
    assert all(job_delay_secs(n) > pause_secs(n) for n in range(2, 100))
    assert job_delay_secs(10_000) == MAX_PAUSE_SECS + 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EROFS, "Read-only file system", "/s/a"), "Read-only file system: /s/a"),
        (MachineTrouble("It is so."), "It is so."),
        (MemoryError(), "MemoryError"),
    ],
    ids=repr,
)
def test_what_is_said(error: Exception, words: str) -> None:
    assert in_words(error) == words
