"""Whose fault a failure is, and what follows from that. Pure (docs/adr/0020).

Only the file's fault fails a job or costs it an attempt. What is this machine's fault makes the worker step back
(gpu_worker/machine.py), and what is the broker's is waited for (broker/patience.py).
"""

import signal
from enum import StrEnum

from broker.errors import StorageFull, Unavailable


class Fault(StrEnum):
    FILE = "file"
    """The job's own: its audio, its options, or that an engine crashes on it."""
    MACHINE = "machine"
    """A full or read-only disk, a program that cannot start, a process that somebody else has ended."""
    BROKER = "broker"


class Failure(Exception):
    """Base of failures that know whose fault they are."""

    fault = Fault.FILE


class MachineTrouble(Failure):
    """This machine cannot do the work now; the sentence says why."""

    fault = Fault.MACHINE


OWN_CRASH = frozenset(
    {
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTRAP,
    }
)
"""Signals that a process brings upon itself. Every other one was sent: by a person, a supervisor, or the kernel."""
CANNOT_START = frozenset({126, 127})
"""What a shell and the dynamic linker exit with where a program or one of its libraries cannot be run."""
FIRST_PAUSE_SECS, MAX_PAUSE_SECS = 1.0, 30.0


def was_sent_away(exit_status: int) -> bool:
    """The process was ended by a signal that somebody else has sent. `exit_status` is negative for a signal."""
    return exit_status < 0 and -exit_status not in OWN_CRASH


def fault_of_exit(exit_status: int) -> Fault:
    """Whose fault it is that ffmpeg or an engine ended with this status, which is not 0."""
    return Fault.MACHINE if was_sent_away(exit_status) or exit_status in CANNOT_START else Fault.FILE


def fault_of(error: BaseException) -> Fault:
    """Whose fault an exception is. One that nobody expects counts as the job's: it must not go round without end."""
    match error:
        case Failure():
            return error.fault
        case Unavailable() | StorageFull():
            return Fault.BROKER
        case OSError() | MemoryError():
            return Fault.MACHINE
        case _:
            return Fault.FILE


def pause_secs(failures: int) -> float:
    """How long the worker takes no jobs after so many failures of its machine in a row, from 1 on."""
    return float(min(MAX_PAUSE_SECS, FIRST_PAUSE_SECS * 2 ** min(failures - 1, 10)))


def job_delay_secs(deliveries: int) -> float:
    """How long a job waits in the queue that was given back for the machine's sake.

    Nothing the first time, so that another worker has it at once; then longer than the worker's own pause, so that a job
    which is too large for this machine does not hold up the others.
    """
    return 0.0 if deliveries < 2 else pause_secs(deliveries) + 1.0


def in_words(error: BaseException) -> str:
    """What an exception says, without the number that an OSError begins with."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__
