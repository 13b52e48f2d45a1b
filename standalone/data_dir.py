"""The data folder of one `up`: locked while it is used, with a note that tells other commands where nats-server listens.

Two nats-servers on one store lose acknowledged messages. So the embedded nats-server inherits the lock file and holds the lock as
well: the folder is free only when both processes have ended, in whatever way.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

from standalone.errors import StartError

ORPHAN_SECS = 5.0
"""How long to wait for a nats-server whose `up` is gone, and which its watchdog is ending."""
POLL_SECS = 0.05
CLOCK_TOLERANCE_SECS = 1.0
"""Difference up to which two start times are those of the same process."""


class Note(msgspec.Struct, kw_only=True, frozen=True):
    """The file up.json: which process has the folder, and where its nats-server listens."""

    pid: int
    started: float
    """When that process was started, in seconds since 1970, because process ids are reused."""
    host: str
    nats_url: str | None = None
    """None until nats-server listens."""

    @property
    def is_alive(self) -> bool:
        """Whether this process runs, as far as this host can tell."""
        if self.host != socket.gethostname():
            return False
        try:
            started = psutil.Process(self.pid).create_time()
        except psutil.Error:
            return False
        return abs(started - self.started) < CLOCK_TOLERANCE_SECS


class DataDir:
    """A folder that this process has locked."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder, self.lock = folder, lock
        self.store, self.ports, self.log = folder / "jetstream", folder / "ports", folder / "nats-server.log"

    def tell(self, nats_url: str | None) -> None:
        """Write the note, in one step. `nats_url` is None until nats-server listens."""
        me = psutil.Process()
        note = Note(pid=me.pid, started=me.create_time(), host=socket.gethostname(), nats_url=nats_url)
        part = self.folder / "up.json.part"
        part.write_bytes(msgspec.json.encode(note))
        part.replace(_note_of(self.folder))


@contextmanager
def locked(folder: Path) -> Iterator[DataDir]:
    """Lock a folder while the block runs, and create it where it is missing. Raises StartError that names its user."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "up.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StartError(f"DATA_DIR={folder} cannot be used: {error.strerror}") from error
    try:
        _take(lock, folder)
        mine = DataDir(folder, lock)
        mine.tell(None)
        yield mine
        _note_of(folder).unlink(missing_ok=True)
    finally:
        os.close(lock)


def _take(lock: int, folder: Path) -> None:
    deadline = time.monotonic() + ORPHAN_SECS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            note = read_note(folder)
            if note is not None and (note.is_alive or note.host != socket.gethostname()):
                where = "" if note.host == socket.gethostname() else f" on {note.host}"
                raise StartError(
                    f"DATA_DIR={folder} is in use by process {note.pid}{where}: "
                    "stop that `up`, or set another DATA_DIR"
                ) from error
            if time.monotonic() > deadline:
                raise StartError(
                    f"DATA_DIR={folder} is in use by a nats-server whose `up` is gone"
                    f"{'' if note is None else f' (it was process {note.pid})'}: end it first"
                ) from error
        # The lock of another process gives no event.
        time.sleep(POLL_SECS)


def read_note(folder: Path) -> Note | None:
    """Return the note of the last `up` on a folder; None where there is none that can be read."""
    try:
        return msgspec.json.decode(_note_of(folder).read_bytes(), type=Note)
    except (OSError, msgspec.DecodeError):
        return None


def running_nats(folder: Path) -> str | None:
    """Return the URL of the nats-server of the `up` that runs on a folder; None where none runs."""
    note = read_note(folder)
    return note.nats_url if note is not None and note.is_alive else None


def _note_of(folder: Path) -> Path:
    return folder / "up.json"
