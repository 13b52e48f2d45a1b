"""Ends the processes of `up` when `up` itself is gone, also after kill -9: `python -m standalone.watchdog`.

It leads their process group. Its standard input is a pipe from `up` to which nothing is written: its end means that `up` has ended.
"""

import os
import signal
import sys
import time

import psutil

GRACE_SECS = 3.0
"""Time for an orderly end. A kill loses nothing, but a worker that ends in order gives its jobs back at once."""
POLL_SECS = 0.05


def main() -> int:
    """Wait for the end of `up`, end the group, and return the exit status."""
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # SIGTERM will be sent to the whole group, this process included.
        signal.signal(sig, signal.SIG_IGN)
    while sys.stdin.buffer.read(4096):
        pass
    end(os.getpgrp())
    return 0


def end(group: int) -> None:
    """End the other processes of a group: in order within GRACE_SECS, or else by SIGKILL, which ends this process too."""
    if not _others(group):
        return
    os.killpg(group, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECS
    while time.monotonic() < deadline:
        if not _others(group):
            return
        # They are not our children, so that nothing reports their end.
        time.sleep(POLL_SECS)
    os.killpg(group, signal.SIGKILL)


def _others(group: int) -> list[int]:
    found = []
    for pid in psutil.pids():
        try:
            if pid == os.getpid() or os.getpgid(pid) != group:
                continue
            # A zombie has ended. In a container there may be nobody who collects it.
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
