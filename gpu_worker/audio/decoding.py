"""Any audio file to 16 kHz mono float32 in a spool file, by the ffmpeg command in a process of its own."""

import asyncio
import errno
import logging
from pathlib import Path

from gpu_worker.audio.decode_report import verdict
from gpu_worker.audio.ffmpeg import run as run_ffmpeg
from gpu_worker.blame import Failure, MachineTrouble, in_words
from gpu_worker.pcm import SAMPLE_RATE
from gpu_worker.spool import check_room
from schemas.errors import ErrorCode, JobError

log = logging.getLogger(__name__)

SAMPLE_BYTES = 4
FORMATS = (
    "aac,ac3,adts,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,eac3,flac,flv,loas,matroska,mka,mov,mp3,mp4,mpeg,mpegts,"
    "ogg,oma,rm,tta,w64,wav,webm,wv,xwma"
)
"""Containers of sound. Not the playlists (hls, dash, concat, ...): those make ffmpeg open other files of this machine."""
CANNOT_WRITE = frozenset(-error & 0xFF for error in (errno.ENOSPC, errno.EDQUOT, errno.EROFS))
"""ffmpeg's exit status is the low byte of its error. A file that it only reads cannot cause these."""


class DecodeError(Failure):
    """The file cannot be transcribed; `error` says why, for the user."""

    def __init__(self, error: JobError) -> None:
        super().__init__(error.message)
        self.error = error


async def decode(source: Path, target: Path, *, timeout_secs: float, max_secs: float) -> int:
    """Decode the first audio track of `source` into `target`; the number of samples. Raises DecodeError, MachineTrouble.

    ffmpeg gets no network (protocol whitelist), no terminal, `timeout_secs` of time, and stops a second after
    `max_secs` of audio, which bounds the spool file.
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
        await _rule_out_the_disk(status, target.parent)
        log.info("ffmpeg refused %s: %s\n%s", source.name, problem.message, text[-2000:])
        raise DecodeError(problem)
    return samples


async def _rule_out_the_disk(status: int, folder: Path) -> None:
    """Before the file is blamed. The words of ffmpeg's log do not count: a file's tags are among them."""
    try:
        await asyncio.to_thread(check_room, folder)
    except OSError as error:
        raise MachineTrouble(f"The spool cannot be written: {in_words(error)}") from error
    if status in CANNOT_WRITE:
        raise MachineTrouble("The spool could not be written while a file was decoded.")


def _size(path: Path) -> int:
    """Bytes; 0 where there is no such file."""
    return path.stat().st_size if path.exists() else 0
