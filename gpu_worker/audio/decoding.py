"""Decodes any audio file to files of samples (gpu_worker/pcm.py), in a process of its own (gpu_worker/audio/decoder/)."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gpu_worker.audio.decoder.protocol import (
    Order,
    Problem,
    RawFormat,
    Report,
    Trouble,
    order_for,
    read_reply,
)
from gpu_worker.audio.verdict import Findings, judge
from gpu_worker.blame import CANNOT_START, Failure, MachineTrouble, in_words, was_sent_away
from process import child_process
from schemas.errors import ErrorCode, JobError
from schemas.options import TranscribeOptions
from schemas.recordings import SPLIT, channel_number

log = logging.getLogger(__name__)

COMMAND = [sys.executable, "-m", "gpu_worker.audio.decoder"]
KILLED_TRIES = 3
"""How often a decoder that somebody has killed is started."""
REPLY_BYTES = 1024 * 1024
"""Far above the longest report."""
LAST_WORDS_BYTES = 4096
"""How much of stderr is kept."""
CHECK_SECS = 30.0
"""Timeout of a decoder that is only started to see whether it can be."""
KEPT_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG")
"""All of our environment that the decoder gets: what Python needs to start, and no credentials."""
DEFAULT_RATE = 16_000
"""Samples per second of samples without a header, where nobody says otherwise: what speech services take."""


class DecodeError(Failure):
    """The file cannot be transcribed; `error` says why, for the user."""

    def __init__(self, error: JobError) -> None:
        super().__init__(error.message)
        self.error = error


class Limits(msgspec.Struct, kw_only=True, frozen=True):
    """What one file may take, in seconds."""

    timeout_secs: float = 1800.0
    """Of waiting, and of CPU time."""
    max_secs: float = 24 * 3600.0
    """Of audio. With `split` all channels together."""


DEFAULT_OPTIONS, DEFAULT_LIMITS = TranscribeOptions(), Limits()


class Decoded(msgspec.Struct, kw_only=True, frozen=True):
    """What was decoded."""

    files: list[Path]
    """One file of samples, or one for each channel. All have the same length."""
    samples: int
    findings: Findings


async def decode(
    source: Path,
    folder: Path,
    options: TranscribeOptions = DEFAULT_OPTIONS,
    limits: Limits = DEFAULT_LIMITS,
    command: Sequence[str] = COMMAND,
) -> Decoded:
    """Decode what `options` ask for into files in `folder`.

    The files have little more than `limits.max_secs`, which bounds the spool. Raises DecodeError, MachineTrouble.
    """
    order = _order(source, folder, options, limits)
    try:
        reply = await _ask(command, order, limits.timeout_secs)
    except TimeoutError as error:
        raise _took_too_long(limits) from error
    match reply:
        case Trouble(message=message):
            raise MachineTrouble(f"The spool could not be used while a file was decoded: {message}")
        case Problem(code=code, message=message):
            raise DecodeError(JobError(code=ErrorCode(code), message=message))
        case Report():
            findings = judge(reply, options)
    if isinstance(findings, JobError):
        raise DecodeError(findings)
    log.debug("decoded %s: %s", source.name, reply)
    return Decoded(files=[Path(path) for path in reply.files], samples=reply.samples, findings=findings)


async def check(command: Sequence[str] = COMMAND) -> None:
    """Check that the decoder can be started. Raises MachineTrouble."""
    try:
        status, _, words = await _run([*command, "check"], CHECK_SECS)
    except TimeoutError as error:
        raise MachineTrouble(f"The decoder says nothing for {CHECK_SECS:.0f} s.") from error
    if status != 0:
        raise MachineTrouble(f"The decoder cannot be started: {words or f'exit status {status}'}")


def _order(source: Path, folder: Path, options: TranscribeOptions, limits: Limits) -> Order:
    raw = None
    if options.format is not None:
        rate, channels = options.sample_rate or DEFAULT_RATE, options.channel_count or 1
        raw = RawFormat(name=options.format, sample_rate=rate, channels=channels)
    return Order(
        source=str(source),
        folder=str(folder),
        max_secs=limits.max_secs,
        cpu_secs=max(1, round(limits.timeout_secs)),
        track=options.track,
        channel=channel_number(options.channels),
        split=options.channels == SPLIT,
        raw=raw,
    )


async def _ask(command: Sequence[str], order: Order, timeout_secs: float) -> Report | Problem | Trouble:
    """Have an order carried out.

    Raises TimeoutError; DecodeError where the file ends the decoder; MachineTrouble where none can be started, or each is killed.
    """
    for _ in range(KILLED_TRIES):
        status, reply, words = await _run([*command, "decode", order_for(order)], timeout_secs)
        if status == -signal.SIGXCPU:
            raise TimeoutError
        # A killed decoder says nothing about the file.
        if not was_sent_away(status):
            break
    else:
        raise MachineTrouble(f"The decoder was killed {KILLED_TRIES} times in a row.")
    if status in CANNOT_START:
        raise MachineTrouble(f"The decoder cannot be started: {words or f'exit status {status}'}")
    if status == 0:
        try:
            return read_reply(reply)
        except msgspec.DecodeError as error:
            words = f"{error}: {reply[:200]!r}"
    log.error("the decoder has ended with status %d on %s: %s", status, order.source, words)
    message = "The file cannot be decoded: it makes the decoder fail."
    raise DecodeError(JobError(code=ErrorCode.AUDIO_UNDECODABLE, message=message))


def _took_too_long(limits: Limits) -> DecodeError:
    message = f"The file could not be decoded within {limits.timeout_secs:.0f} seconds."
    return DecodeError(JobError(code=ErrorCode.DECODE_TIMEOUT, message=message))


async def _run(command: list[str], timeout_secs: float) -> tuple[int, bytes, str]:
    """Run the decoder and return its exit status, its reply and its last words. Raises TimeoutError.

    One that cannot be executed has the exit status that a shell would give it.
    """
    try:
        process = await child_process.start(
            command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
    except OSError as error:
        return min(CANNOT_START), b"", in_words(error)
    try:
        async with asyncio.timeout(timeout_secs):
            reply, words, status = await asyncio.gather(
                _read(process.stdout, REPLY_BYTES), _read(process.stderr, LAST_WORDS_BYTES), process.wait()
            )
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return status, reply, words.decode("utf-8", "replace").strip()[-500:]


def environment() -> dict[str, str]:
    """Return the decoder's environment."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


async def _read(pipe: asyncio.StreamReader | None, limit: int) -> bytes:
    """Read all, so that the decoder never blocks on it. Returns the last `limit` bytes."""
    kept = b""
    while pipe is not None and (block := await pipe.read(65536)):
        kept = (kept + block)[-limit:]
    return kept
