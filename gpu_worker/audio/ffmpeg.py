"""The ffmpeg command: which program is used, and whose fault it is when it does not work."""

import asyncio
import logging
import re
import shutil
from pathlib import Path

import imageio_ffmpeg

from gpu_worker.blame import CANNOT_START, MachineTrouble, in_words, was_sent_away
from process import child_process

log = logging.getLogger(__name__)

KILLED_TRIES = 3
"""How often an ffmpeg that somebody has killed is started."""
LOG_BYTES = 256 * 1024
"""How much of ffmpeg's log is kept. A damaged file can make it write without end."""
CHECK_SECS = 30.0
"""Timeout of `ffmpeg -version`."""
STOPPED_STATUS = 255
"""Exit status of an ffmpeg that has caught SIGTERM."""
_STOPPED = re.compile(r"Exiting normally, received signal \d+\.\s*\Z")
"""The last line of such an ffmpeg. The tags of a file, which it prints too, come before."""


class MissingProgram(MachineTrouble):
    """There is no ffmpeg on this machine."""


def programs() -> list[str]:
    """Return ffmpeg from PATH, then the one that imageio-ffmpeg carries. Raises MissingProgram where there is neither.

    imageio_ffmpeg.get_ffmpeg_exe is not used: it blocks the loop while it starts ffmpeg to test it, and where that process is
    killed it remembers for ever that there is no ffmpeg.
    """
    carried = sorted((Path(imageio_ffmpeg.__file__).parent / "binaries").glob("ffmpeg-*"))
    found = [path for path in (shutil.which("ffmpeg"), *map(str, carried)) if path]
    if not found:
        raise MissingProgram("There is no ffmpeg on PATH, and imageio-ffmpeg carries none for this platform.")
    return found


def ffmpeg() -> str:
    """Return the program that is tried first. Raises MissingProgram."""
    return programs()[0]


async def run(arguments: list[str], timeout_secs: float) -> tuple[int, str]:
    """Run ffmpeg and return its exit status and log.

    Raises TimeoutError; MachineTrouble where no ffmpeg can be started, or where each one is killed.
    """
    reason = ""
    for program in programs():
        for _ in range(KILLED_TRIES):
            status, text = await _once([program, *arguments], timeout_secs)
            # A killed ffmpeg says nothing about the file.
            if not _was_killed(status, text):
                break
        else:
            raise MachineTrouble(f"ffmpeg was killed {KILLED_TRIES} times in a row.")
        if status not in CANNOT_START:
            return status, text
        reason = f"{program}: {text.strip()[-300:] or f'exit status {status}'}"
        log.warning("ffmpeg cannot be started: %s", reason)
    raise MachineTrouble(f"ffmpeg cannot be started: {reason}")


async def check() -> None:
    """Check that ffmpeg can be started. Raises MachineTrouble."""
    try:
        status, text = await run(["-version"], CHECK_SECS)
    except TimeoutError as error:
        raise MachineTrouble(f"ffmpeg says nothing for {CHECK_SECS:.0f} s.") from error
    if status != 0:
        raise MachineTrouble(f"ffmpeg cannot be used: exit status {status}: {text.strip()[-300:]}")


def _was_killed(status: int, text: str) -> bool:
    return was_sent_away(status) or (status == STOPPED_STATUS and _STOPPED.search(text) is not None)


async def _once(command: list[str], timeout_secs: float) -> tuple[int, str]:
    """Run one program. One that cannot be executed has the exit status that a shell would give it."""
    try:
        process = await child_process.start(
            command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        return min(CANNOT_START), in_words(error)
    try:
        async with asyncio.timeout(timeout_secs):
            text, status = await asyncio.gather(_read_log(process), process.wait())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return status, text


async def _read_log(process: asyncio.subprocess.Process) -> str:
    """Read all of stderr, so that ffmpeg never blocks on it. Returns its beginning and its end."""
    head, tail = b"", b""
    if process.stderr is not None:
        while block := await process.stderr.read(65536):
            room = LOG_BYTES // 2 - len(head)
            head += block[: max(room, 0)]
            tail = (tail + block[max(room, 0) :])[-LOG_BYTES // 2 :]
    return (head + tail).decode("utf-8", "replace")
