"""Restarts the embedded nats-server after a full disk, as soon as there is room.

When a stream could not be written, nats-server 2.15.1 accepts nothing more for that stream and answers no publish to it, also when
there is room again, until it is restarted. Its log is the only place that says so.
"""

import asyncio
import logging
import shutil
from pathlib import Path

log = logging.getLogger(__name__)

MARK = b"no space left on device"
"""Text of the log line."""
LOOK_SECS = 2.0
"""How often the log and the disk are looked at."""
ROOM_BYTES = 64 * 1024 * 1024
"""Free bytes from which a restart makes sense: less would be full again at once."""
ROOM_SHARE = 0.2
"""The same as a share of the disk, for a small one."""


async def restart_when_there_is_room(
    process: asyncio.subprocess.Process, log_file: Path, store: Path
) -> None:
    """End the server when its disk was full and has room again; its keeper then starts it. Runs until that, or cancelled."""
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
        # A little earlier, because the last look may have seen a part of the text.
        file.seek(max(0, at - len(MARK)))
        text = file.read()
        return MARK in text, file.tell()


def _has_room(store: Path) -> bool:
    usage = shutil.disk_usage(store)
    return usage.free >= min(ROOM_BYTES, ROOM_SHARE * usage.total)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
