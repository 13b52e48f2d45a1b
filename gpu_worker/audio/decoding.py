"""Decodes any audio file to samples (gpu_worker/pcm.py) in a spool file, with the ffmpeg command as a child process."""

import asyncio
import errno
import logging
from pathlib import Path

from gpu_worker.audio.decode_report import verdict
from gpu_worker.audio.ffmpeg import run as run_ffmpeg
from gpu_worker.blame import Failure, MachineTrouble, in_words
from gpu_worker.pcm import SAMPLE_BYTES, SAMPLE_RATE
from gpu_worker.spool import check_room
from schemas.errors import ErrorCode, JobError

log = logging.getLogger(__name__)

FORMATS = (
    "aac,ac3,adts,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,eac3,flac,flv,loas,matroska,mka,mov,mp3,mp4,mpeg,mpegts,"
    "ogg,oma,rm,tta,w64,wav,webm,wv,xwma"
)
"""ffmpeg's names of audio containers. Playlists (hls, dash, concat, ...) are left out: they make ffmpeg open other files."""
CANNOT_WRITE = frozenset(-error & 0xFF for error in (errno.ENOSPC, errno.EDQUOT, errno.EROFS))
"""Exit statuses of an ffmpeg that cannot write: the low byte of the negative errno. Its input cannot cause these."""


class DecodeError(Failure):
    """The file cannot be transcribed; `error` says why, for the user."""

    def __init__(self, error: JobError) -> None:
        super().__init__(error.message)
        self.error = error


async def decode(source: Path, target: Path, *, timeout_secs: float, max_secs: float) -> int:
    """Decode the first audio track of `source` into `target`, and return the number of samples.

    ffmpeg gets no network (protocol whitelist), no terminal and `timeout_secs` of time. It stops one second after `max_secs` of
    audio, which bounds the spool file. Raises DecodeError, MachineTrouble.
    """
    if _size(source) == 0:
        raise DecodeError(JobError(code=ErrorCode.AUDIO_EMPTY, message="The file is empty."))
    arguments = [
        *("-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info", "-y"),
        *("-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS, "-i", f"file:{source}"),
        *("-map", "0:a:0", "-vn", "-ac", "1", "-ar", str(SAMPLE_RATE), "-t", str(max_secs + 1)),
        *("-f", "f32le", f"file:{target}"),
    ]
    try:
        status, text = await run_ffmpeg(arguments, timeout_secs)
    except TimeoutError as error:
        message = f"The file could not be decoded within {timeout_secs:.0f} seconds."
        raise DecodeError(JobError(code=ErrorCode.DECODE_TIMEOUT, message=message)) from error
    samples = _size(target) // SAMPLE_BYTES
    if problem := verdict(status, text, samples / SAMPLE_RATE, max_secs):
        await _check_the_disk(status, target.parent)
        log.info("ffmpeg refused %s: %s\n%s", source.name, problem.message, text[-2000:])
        raise DecodeError(problem)
    return samples


async def _check_the_disk(status: int, folder: Path) -> None:
    """Raise MachineTrouble where the disk is at fault, before the file is blamed.

    ffmpeg's log is not read for this, because it prints the file's tags as well.
    """
    try:
        await asyncio.to_thread(check_room, folder)
    except OSError as error:
        raise MachineTrouble(f"The spool cannot be written: {in_words(error)}") from error
    if status in CANNOT_WRITE:
        raise MachineTrouble("The spool could not be written while a file was decoded.")


def _size(path: Path) -> int:
    """Return the length in bytes; 0 where there is no such file."""
    return path.stat().st_size if path.exists() else 0
