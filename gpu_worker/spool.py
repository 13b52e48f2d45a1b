"""The worker's folder for audio at work, and the sweep of what killed workers have left.

A folder belongs to the process that holds the lock on its file `lock`: the kernel takes the lock back when that process
dies, in whatever container and under whatever process id it lived.
"""

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "whisper-jetstream-"
LOCK = "lock"
PROBE_BYTES = 1024 * 1024
"""More than ffmpeg leaves unwritten on a full disk."""
ABANDONED_SECS = 24 * 3600.0
"""A folder without a lock is being made right now, or is one of an earlier version: it goes when it is this old."""


class Spool:
    def __init__(self, root: Path) -> None:
        """Nothing is touched before the first `check` or `folder`."""
        self._root = root
        self._own: Path | None = None
        self._lock: int | None = None

    def folder(self, job_id: str) -> Path:
        """A new folder for one job; its caller removes it. Blocking. Raises OSError."""
        return Path(tempfile.mkdtemp(prefix=f"{job_id[:16]}-", dir=self._ready()))

    def check(self) -> None:
        """Write a little, and sweep. Blocking. Raises OSError with what is wrong."""
        own = self._ready()
        check_room(own)

    def close(self) -> None:
        """Remove the worker's own folder. Blocking."""
        self._forget()

    def _ready(self) -> Path:
        """The worker's own folder, made and locked. Raises OSError."""
        if self._own is None or not (self._own / LOCK).exists():  # somebody tidies up in /tmp
            self._forget()
            self._root.mkdir(parents=True, exist_ok=True)
            self._sweep()
            while self._own is None:
                self._make()
        return self._own

    def _make(self) -> None:
        own = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._root))
        lock = os.open(own / LOCK, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_at(lock, own / LOCK):  # else a sweep has come between the two
                self._own, self._lock, lock = own, lock, -1
        finally:
            if lock >= 0:
                os.close(lock)

    def _forget(self) -> None:
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        self._own = self._lock = None

    def _sweep(self) -> None:
        """Remove the folders of workers that are dead."""
        for folder in self._root.glob(f"{PREFIX}*"):
            try:
                lock = os.open(folder / LOCK, os.O_RDWR)
            except OSError:
                if _is_older(folder, ABANDONED_SECS):
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                continue  # its worker lives
            finally:
                os.close(lock)


def check_room(folder: Path) -> None:
    """Write PROBE_BYTES to a file in `folder` and remove it. Blocking. Raises OSError."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _is_older(folder: Path, secs: float) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > secs
    except OSError:
        return False
