"""Child processes that have an owner from their first moment.

On Linux the kernel kills them when this process dies, however that happens. Other systems have no such request (PR_SET_PDEATHSIG),
so there a child of a process that was killed with SIGKILL ends when it next uses its closed pipes.
"""

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable
from typing import Any

_libc = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: the signal that this process gets when its parent dies."""


async def start(command: list[str], **options: Any) -> asyncio.subprocess.Process:
    """Start `command`. `options` are those of asyncio.create_subprocess_exec. Raises OSError.

    A caller that is cancelled meanwhile has no process to end, because it is ended here.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(*command, preexec_fn=_die_with(os.getpid()), **options)
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # A callback, because the wait that follows may be cancelled as well.
        starting.add_done_callback(_kill)
        await asyncio.wait([starting])
        if starting.exception() is None:
            await starting.result().wait()
        raise


def _kill(started: "asyncio.Future[asyncio.subprocess.Process]") -> None:
    if not started.cancelled() and started.exception() is None and started.result().returncode is None:
        started.result().kill()


def _die_with(parent: int) -> Callable[[], None] | None:
    """Return what the new process runs before it becomes `command`; None where the system has no prctl."""
    prctl = getattr(_libc, "prctl", None)
    if prctl is None:
        return None

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died between the fork and the call above.
        if os.getppid() != parent:
            os._exit(1)

    return in_child
