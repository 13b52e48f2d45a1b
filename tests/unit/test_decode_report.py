"""ffmpeg's log to a verdict. The logs are ffmpeg 9.0's own, shortened."""

import pytest

from gpu_worker.audio.decode_report import declared_secs, verdict
from schemas.errors import ErrorCode

WHOLE = "[info]   Duration: 00:01:05.94, start: 0.050113, bitrate: 32 kb/s\n[info]   Stream #0:0: Audio: mp3, 22050 Hz"
ESTIMATED = "[in#0/wav @ 0x1] [warning] Estimating duration from bitrate, this may be inaccurate\n" + WHOLE
VIDEO = WHOLE + "\n[info]   Stream #0:0[0x1](und): Video: mpeg4 (Simple Profile)"
COVER = WHOLE + "\n[info]   Stream #0:1: Video: mjpeg, yuvj420p, 500x500 (attached pic)"
CORRUPT = "[in#0/wav @ 0x1] [warning] corrupt input packet in stream 0\n"
PIPED = "[in#0 @ 0x1] [warning] Ignoring maximum wav data size, file may be invalid\n"
PARTIAL = "[in#0/mov,mp4 @ 0x1] [error] stream 0, offset 0x8dad: partial file\n"
NO_STREAM = "[fatal] Stream map '' matches no streams.\n"
GARBAGE = "[in#0 @ 0x55] [error] Error opening input: Invalid data found when processing input\n[error] Error opening"


@pytest.mark.parametrize(
    ("log", "expected"),
    [(WHOLE, 65.94), (ESTIMATED, None), (VIDEO, None), (COVER, 65.94), ("Duration: N/A", None)],
)
def test_declared_duration(log: str, expected: float | None) -> None:
    assert declared_secs(log) == expected


@pytest.mark.parametrize(
    ("status", "log", "decoded", "code"),
    [
        (0, WHOLE, 65.9, None),
        (0, WHOLE, 64.7, None),
        (0, WHOLE, 40.0, ErrorCode.AUDIO_TRUNCATED),
        (0, COVER, 40.0, ErrorCode.AUDIO_TRUNCATED),
        (0, VIDEO, 40.0, None),
        (0, ESTIMATED, 40.0, None),
        (0, CORRUPT, 40.0, ErrorCode.AUDIO_TRUNCATED),
        (0, PIPED + CORRUPT, 40.0, None),
        (0, PARTIAL + VIDEO, 40.0, ErrorCode.AUDIO_TRUNCATED),
        (0, "", 0.0, ErrorCode.AUDIO_EMPTY),
        (0, WHOLE, 100.5, ErrorCode.AUDIO_TOO_LONG),
        (234, NO_STREAM, 0.0, ErrorCode.AUDIO_NO_STREAM),
        (183, GARBAGE, 0.0, ErrorCode.AUDIO_UNDECODABLE),
        (-9, "", 0.0, ErrorCode.AUDIO_UNDECODABLE),
    ],
)
def test_verdicts(status: int, log: str, decoded: float, code: ErrorCode | None) -> None:
    error = verdict(status, log, decoded, max_secs=100)
    assert (error.code if error else None) == code
    assert error is None or error.message.endswith(".")


def test_the_reason_is_ffmpegs_without_its_prefixes() -> None:
    error = verdict(183, GARBAGE, 0, 100)
    assert error is not None
    assert "Error opening input: Invalid data found when processing input." in error.message
