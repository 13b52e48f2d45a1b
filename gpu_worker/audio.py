"""Any audio file to 16 kHz mono float32 in a spool file, by the ffmpeg command in a process of its own."""

import asyncio
import logging
import shutil
import signal
from pathlib import Path

import imageio_ffmpeg

from gpu_worker.decode_report import verdict
from gpu_worker.stretches import SAMPLE_RATE
from schemas.errors import ErrorCode, JobError

log = logging.getLogger(__name__)

SAMPLE_BYTES = 4
FORMATS = (
    "aac,ac3,adts,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,eac3,flac,flv,loas,matroska,mka,mov,mp3,mp4,mpeg,mpegts,"
    "ogg,oma,rm,tta,w64,wav,webm,wv,xwma"
)
"""Containers of sound. Not the playlists (hls, dash, concat, ...): those make ffmpeg open other files of this machine."""
KILLED_TRIES = 3
"""An ffmpeg that somebody kills is started again, but not for ever."""
LOG_BYTES = 256 * 1024
"""So much of ffmpeg's log is read; a damaged file can make it write without end."""


class DecodeError(Exception):
    """The file cannot be transcribed; `error` says why, for the user."""

    def __init__(self, error: JobError) -> None:
        super().__init__(error.message)
        self.error = error


def ffmpeg() -> str:
    """ffmpeg from PATH, else the one that imageio-ffmpeg carries. Raises RuntimeError where there is none.

    imageio_ffmpeg.get_ffmpeg_exe would block the loop while it starts ffmpeg to see whether it works, and where that
    process is killed it remembers for ever that there is no ffmpeg.
    """
    if found := shutil.which("ffmpeg"):
        return found
    for carried in (Path(imageio_ffmpeg.__file__).parent / "binaries").glob("ffmpeg-*"):
        return str(carried)
    raise RuntimeError("there is no ffmpeg on PATH, and imageio-ffmpeg carries none for this platform")


async def decode(source: Path, target: Path, *, timeout_secs: float, max_secs: float) -> int:
    """Decode the first audio track of `source` into `target`; the number of samples. Raises DecodeError.

    ffmpeg gets no network (protocol whitelist), no terminal, `timeout_secs` of time, and stops a second after
    `max_secs` of audio, which bounds the spool file.
    """
    if _size(source) == 0:
        raise DecodeError(JobError(code=ErrorCode.AUDIO_EMPTY, message="The file is empty."))
    command = [
        *(ffmpeg(), "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info", "-y"),
        *("-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS, "-i", f"file:{source}"),
        *("-map", "0:a:0", "-vn", "-ac", "1", "-ar", str(SAMPLE_RATE), "-t", str(max_secs + 1)),
        *("-f", "f32le", f"file:{target}"),
    ]
    for _ in range(KILLED_TRIES):
        status, text = await _run(command, timeout_secs)
        if status != -signal.SIGKILL:  # which somebody else has sent, and says nothing about the file
            break
    else:
        message = f"ffmpeg was killed {KILLED_TRIES} times in a row while it decoded the file."
        raise DecodeError(JobError(code=ErrorCode.DECODE_KILLED, message=message))
    samples = _size(target) // SAMPLE_BYTES
    if problem := verdict(status, text, samples / SAMPLE_RATE, max_secs):
        log.info("ffmpeg refused %s: %s\n%s", source.name, problem.message, text[-2000:])
        raise DecodeError(problem)
    return samples


async def _run(command: list[str], timeout_secs: float) -> tuple[int, str]:
    """Exit status and log. Raises DecodeError."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_secs):
            text, status = await asyncio.gather(_read_log(process), process.wait())
    except TimeoutError as error:
        message = f"The file could not be decoded within {timeout_secs:.0f} seconds."
        raise DecodeError(JobError(code=ErrorCode.DECODE_TIMEOUT, message=message)) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return status, text


def _size(path: Path) -> int:
    """Bytes; 0 where there is no such file."""
    return path.stat().st_size if path.exists() else 0


async def _read_log(process: asyncio.subprocess.Process) -> str:
    """Read all of stderr, so that ffmpeg never blocks on it, and keep the beginning and the end."""
    head, tail = b"", b""
    if process.stderr is not None:
        while block := await process.stderr.read(65536):
            room = LOG_BYTES // 2 - len(head)
            head += block[: max(room, 0)]
            tail = (tail + block[max(room, 0) :])[-LOG_BYTES // 2 :]
    return (head + tail).decode("utf-8", "replace")
