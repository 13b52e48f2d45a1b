"""Ends `up`'s processes when `up` itself is gone, also by kill -9: `python -m standalone.watchdog`, the leader of their group.

Its standard input is a pipe from `up` that nobody writes to. Its end means that `up` has ended.
"""

import os
import signal
import sys
import time

import psutil

GRACE_SECS = 3.0
"""Nothing is lost by a kill, but a worker that ends in order gives its jobs back at once."""
POLL_SECS = 0.05


def main() -> int:
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)  # the first of them is about to go to the whole group
    while sys.stdin.buffer.read(4096):
        pass
    end(os.getpgrp())
    return 0


def end(group: int) -> None:
    """End all others of this process's group, in order if they do it soon; the kill at the end is for this process, too."""
    if not _others(group):
        return
    os.killpg(group, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECS
    while time.monotonic() < deadline:
        if not _others(group):
            return
        time.sleep(POLL_SECS)  # they are not our children, so nothing tells of their end
    os.killpg(group, signal.SIGKILL)


def _others(group: int) -> list[int]:
    found = []
    for pid in psutil.pids():
        try:
            if pid == os.getpid() or os.getpgid(pid) != group:
                continue
            if (
                psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
            ):  # ended; in a container nobody may collect it
                found.append(pid)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
