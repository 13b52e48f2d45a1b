"""The worker's folder for the audio of its jobs, and the removal of folders that killed workers have left behind.

A folder belongs to the process that holds the lock on its file `lock`. The kernel releases that lock when the process dies, so
that neither process ids nor containers matter.
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
"""Bytes of the test write: more than a decoder leaves unwritten on a full disk."""
ABANDONED_SECS = 24 * 3600.0
"""Age at which a folder without a lock is removed. A younger one may be just being created."""


class Spool:
    """The spool folder of one worker process, created when it is first needed."""

    def __init__(self, root: Path) -> None:
        """`root` is the folder in which it is created."""
        self._root = root
        self._own: Path | None = None
        self._lock: int | None = None

    def folder(self, job_id: str) -> Path:
        """Create a folder for one job, which the caller removes. Blocking. Raises OSError."""
        return Path(tempfile.mkdtemp(prefix=f"{job_id[:16]}-", dir=self._ready()))

    def check(self) -> None:
        """Check that the spool can be written, by a test write. Blocking. Raises OSError."""
        check_room(self._ready())

    def close(self) -> None:
        """Remove the worker's own folder. Blocking."""
        self._forget()

    def _ready(self) -> Path:
        """Return the worker's own folder, created and locked. Raises OSError."""
        # It may be gone: some systems clean their folder for temporary files.
        if self._own is None or not (self._own / LOCK).exists():
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
            # Another worker's sweep may have removed the folder between its creation and our lock.
            if _is_at(lock, own / LOCK):
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
        """Remove the folders of dead workers."""
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
                # The lock is held, so its worker is alive.
                continue
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
