"""Child processes that have an owner from the first moment, and never outlive it."""

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable
from typing import Any

_libc = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


async def start(command: list[str], **options: Any) -> asyncio.subprocess.Process:
    """Start `command`; `options` are those of asyncio.create_subprocess_exec. Raises OSError.

    Whoever is cancelled meanwhile has no process to end: it is ended here. The kernel kills it when this process dies,
    however that comes.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(*command, preexec_fn=_ends_with(os.getpid()), **options)
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_kill)  # also if the wait that follows is cancelled too
        await asyncio.wait([starting])
        if starting.exception() is None:
            await starting.result().wait()
        raise


def _kill(started: "asyncio.Future[asyncio.subprocess.Process]") -> None:
    if not started.cancelled() and started.exception() is None and started.result().returncode is None:
        started.result().kill()


def _ends_with(parent: int) -> Callable[[], None]:
    """What the new process does before it becomes `command`."""

    def in_child() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # which has died between fork and now
            os._exit(1)

    return in_child
