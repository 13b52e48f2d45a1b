"""What ffmpeg's log says about a file. Pure: text in, verdict out."""

import re

from schemas.errors import ErrorCode, JobError

_DURATION = re.compile(r"^\s*(?:\[info\])?\s*Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", re.MULTILINE)
_NO_AUDIO = ("matches no streams", "does not contain any stream")
_PARTIAL = "partial file"
_CORRUPT_PACKET = "corrupt input packet"
_UNKNOWN_WAV_SIZE = "Ignoring maximum wav data size"
_ESTIMATED = "Estimating duration from bitrate"
_VIDEO = re.compile(r"Stream #0:\d+.*: Video: (?!.*\(attached pic\))")
TOLERANCE_SECS, TOLERANCE_SHARE = 1.0, 0.02
"""A file may be shorter than it declares by the larger of these two: encoders round, and add padding that decoders drop."""


def declared_secs(log: str) -> float | None:
    """Return the duration that the container declares, in seconds; None where it declares none, or has a video.

    The duration of a container is that of its longest stream, so that with a video it says nothing about the audio.
    """
    found = _DURATION.search(log)
    if found is None or _ESTIMATED in log or _VIDEO.search(log):
        return None
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def verdict(exit_status: int, log: str, decoded_secs: float, max_secs: float) -> JobError | None:
    """Return why this file cannot be transcribed, or None. `decoded_secs` is the length of what ffmpeg has written."""
    if any(mark in log for mark in _NO_AUDIO):
        return JobError(code=ErrorCode.AUDIO_NO_STREAM, message="The file has no audio track.")
    if exit_status != 0:
        reason = _last_error(log)
        message = f"The file cannot be decoded as audio: {reason}."
        return JobError(code=ErrorCode.AUDIO_UNDECODABLE, message=message)
    if decoded_secs > max_secs:
        message = f"The audio is longer than the {max_secs:.0f} seconds that are allowed here."
        return JobError(code=ErrorCode.AUDIO_TOO_LONG, message=message)
    if _is_truncated(log, decoded_secs):
        declared = declared_secs(log)
        of = f" of the {declared:.1f} that it declares" if declared and declared > decoded_secs else ""
        message = f"The file ends early: only {decoded_secs:.1f} seconds{of} could be decoded."
        return JobError(code=ErrorCode.AUDIO_TRUNCATED, message=message)
    if decoded_secs == 0:
        return JobError(
            code=ErrorCode.AUDIO_EMPTY, message="The file has an audio track, but no sound in it."
        )
    return None


def _is_truncated(log: str, decoded_secs: float) -> bool:
    if _PARTIAL in log or (_CORRUPT_PACKET in log and _UNKNOWN_WAV_SIZE not in log):
        return True
    declared = declared_secs(log)
    return declared is not None and decoded_secs < declared - max(TOLERANCE_SECS, TOLERANCE_SHARE * declared)


def _last_error(log: str) -> str:
    """Return the first error of the log, without its prefixes."""
    lines = [line for line in log.splitlines() if "[error]" in line or "[fatal]" in line]
    text = lines[0] if lines else "ffmpeg gave no reason"
    return re.sub(r"^(\[[^\]]*\]\s*)+", "", text).strip().rstrip(".")
