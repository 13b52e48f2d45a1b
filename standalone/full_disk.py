"""The embedded nats-server after a full disk: it is restarted as soon as there is room.

Once a stream could not be written, nats-server 2.15.1 takes nothing more for that stream and answers no publish to it, also when
there is room again, until it is started anew. Its log is the only place that tells of it.
"""

import asyncio
import logging
import shutil
from pathlib import Path

log = logging.getLogger(__name__)

MARK = b"no space left on device"
LOOK_SECS = 2.0
ROOM_BYTES = 64 * 1024 * 1024
"""Less than this would be full again at once."""
ROOM_SHARE = 0.2
"""Of the whole disk, where that is a small one."""


async def restart_when_there_is_room(
    process: asyncio.subprocess.Process, log_file: Path, store: Path
) -> None:
    """Until cancelled: end the server, which its keeper starts again, when its disk was full and no longer is."""
    at = await asyncio.to_thread(_size, log_file)
    was_full = False
    while True:
        await asyncio.sleep(LOOK_SECS)
        found, at = await asyncio.to_thread(_says, log_file, at)
        if found and not was_full:
            was_full = True
            log.error("nats-server: the disk of %s is full; it is restarted when there is room", store)
        if was_full and await asyncio.to_thread(_has_room, store):
            log.warning("nats-server: there is room again, it is restarted")
            process.terminate()
            return


def _says(log_file: Path, at: int) -> tuple[bool, int]:
    """Whether the log behind the byte `at` has the mark, and where it ends now."""
    with log_file.open("rb") as file:
        file.seek(max(0, at - len(MARK)))  # it may have been cut in two
        text = file.read()
        return MARK in text, file.tell()


def _has_room(store: Path) -> bool:
    usage = shutil.disk_usage(store)
    return usage.free >= min(ROOM_BYTES, ROOM_SHARE * usage.total)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
