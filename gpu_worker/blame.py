"""Whose fault a failure is, and what follows from that. Pure (docs/adr/0020).

Only a fault of the file fails a job or costs it an attempt. After a fault of this machine the worker stops taking jobs for a
while (gpu_worker/machine.py). After a fault of nats-server the worker waits for it (broker/patience.py).
"""

import signal
from enum import StrEnum

from broker.errors import OUTAGES


class Fault(StrEnum):
    """Who is at fault."""

    FILE = "file"
    """The job: its audio, its options, or that engines crash on it."""
    MACHINE = "machine"
    """This machine: a full or read-only disk, a program that cannot start, a child process that somebody else has killed."""
    BROKER = "broker"
    """nats-server: it is away, or has no room."""


class Failure(Exception):
    """Base of exceptions that know whose fault they are."""

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
"""Signals that a process causes by itself. Every other one was sent by a person, a supervisor or the kernel."""
CANNOT_START = frozenset({126, 127})
"""Exit statuses of a shell and of the dynamic linker where a program or one of its libraries cannot be run."""
FIRST_PAUSE_SECS, MAX_PAUSE_SECS = 1.0, 30.0
"""The pause doubles from the first to the last of these with each failure of this machine."""


def was_sent_away(exit_status: int) -> bool:
    """Whether a process was ended by a signal that somebody else has sent. `exit_status` is negative for a signal."""
    return exit_status < 0 and -exit_status not in OWN_CRASH


def fault_of_exit(exit_status: int) -> Fault:
    """Return whose fault it is that a child process has ended with this status, which is not 0."""
    return Fault.MACHINE if was_sent_away(exit_status) or exit_status in CANNOT_START else Fault.FILE


def fault_of(error: BaseException) -> Fault:
    """Return whose fault an exception is. An unexpected one counts as the job's, because it must not be retried for ever."""
    match error:
        case Failure():
            return error.fault
        case _ if isinstance(error, OUTAGES):
            return Fault.BROKER
        case OSError() | MemoryError():
            return Fault.MACHINE
        case _:
            return Fault.FILE


def pause_secs(failures: int) -> float:
    """Return the seconds without jobs after `failures` failures of this machine in a row, from 1 on."""
    return float(min(MAX_PAUSE_SECS, FIRST_PAUSE_SECS * 2 ** min(failures - 1, 10)))


def job_delay_secs(deliveries: int) -> float:
    """Return the delay before a job that this machine has given back is delivered again.

    There is none the first time, so that another worker has it at once. Later the delay is longer than the worker's own pause,
    so that a job which is too large for this machine does not hold up the others.
    """
    return 0.0 if deliveries < 2 else pause_secs(deliveries) + 1.0


def in_words(error: BaseException) -> str:
    """Return the text of an exception, without the number that an OSError begins with."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__
