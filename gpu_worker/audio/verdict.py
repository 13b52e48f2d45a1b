"""What the decoder's report means for the job: why it fails, what it has to say, how long it is. Pure."""

import msgspec

from gpu_worker.audio.decoder.lengths import is_short
from gpu_worker.audio.decoder.level import QUIET_DB
from gpu_worker.audio.decoder.protocol import Report
from gpu_worker.pcm import SAMPLE_RATE
from schemas.errors import ErrorCode, JobError
from schemas.options import TranscribeOptions
from schemas.recordings import MIX, SPLIT, JobWarning, Source, WarningCode


class Findings(msgspec.Struct, kw_only=True, frozen=True):
    """What a job tells of its recording."""

    duration_secs: float
    """What a player shows."""
    source: Source
    warnings: tuple[JobWarning, ...]


def judge(report: Report, options: TranscribeOptions) -> Findings | JobError:
    """Return what a job tells of its recording, or why it cannot be transcribed."""
    ended = report.samples / SAMPLE_RATE
    warnings = tuple(_warnings(report, options, ended))
    if options.strict:
        for warning in warnings:
            if warning.code in STRICT:
                return JobError(code=STRICT[warning.code], message=warning.message)
    return Findings(
        duration_secs=_duration(report.declared_secs, ended), source=_source(report), warnings=warnings
    )


HAIR_SECS = 0.1
"""What may be missing at the end of a WAV that is whole: its header counts a few bytes too many."""
EXACT = frozenset({"flac", "tta", "wv", "ape", "tak"})
"""Lossless formats that say how many samples they have."""
EXACT_SECS = 0.01
"""Less is rounding."""
STRICT = {
    WarningCode.AUDIO_TRUNCATED: ErrorCode.AUDIO_TRUNCATED,
    WarningCode.AUDIO_DAMAGED: ErrorCode.AUDIO_DAMAGED,
}
"""The warnings that are failures with the option `strict`."""


def _duration(declared: float | None, ended: float) -> float:
    """Return the container's length, except where there is clearly more sound than that."""
    return ended if declared is None or is_short(ended, declared) else declared


def _source(report: Report) -> Source:
    track = report.tracks[report.track - 1]
    return Source(
        container=report.container,
        codec=track.codec,
        track=track.number,
        tracks=len(report.tracks),
        title=track.title,
        channels=track.channels,
        layout=track.layout,
        sample_rate=track.sample_rate,
        start_secs=round(track.start_secs, 3),
    )


def _warnings(report: Report, options: TranscribeOptions, ended: float) -> list[JobWarning]:
    said: list[tuple[bool, WarningCode, str]] = [
        (_is_truncated(report), WarningCode.AUDIO_TRUNCATED, _truncated(report, ended)),
        (_is_damaged(report), WarningCode.AUDIO_DAMAGED, _damaged(report.decoder_errors)),
        (
            report.channels_differ and options.channels == MIX,
            WarningCode.CHANNELS_DIFFER,
            f"The channels differ from each other. `channels={SPLIT}` transcribes each by itself.",
        ),
        (
            report.channels_same and options.channels == SPLIT,
            WarningCode.CHANNELS_SAME,
            f"All channels are the same recording. `channels={MIX}` transcribes it once.",
        ),
        (
            report.level_db is not None and report.level_db < QUIET_DB,
            WarningCode.QUIET,
            f"The recording is very quiet ({report.level_db or 0:.0f} dB). It was raised by {report.gain_db:.0f} dB.",
        ),
        (report.level_db is None, WarningCode.SILENT, "There is no sound in the recording."),
        (bool(report.silent_tracks), WarningCode.TRACK_SILENT, _silent(report)),
    ]
    return [JobWarning(code=code, message=message) for applies, code, message in said if applies]


def _is_truncated(report: Report) -> bool:
    declared = report.track_declared_secs
    is_whole = (
        report.container == "wav" and declared is not None and report.reached_secs >= declared - HAIR_SECS
    )
    return (report.ends_inside and not is_whole) or is_short(declared, report.reached_secs)


def _truncated(report: Report, ended: float) -> str:
    declared = report.track_declared_secs
    if declared is not None and is_short(declared, ended):
        return f"The file ends early: it has only {ended:.1f} seconds of the {declared:.1f} that it declares."
    return f"The file was cut off: it ends after {ended:.1f} seconds, in the middle of its data."


def _is_damaged(report: Report) -> bool:
    if report.decoder_errors > 0:
        return True
    # The demuxers of these jump over damage and say nothing, but every sample is counted in the header.
    declared = report.track_declared_secs if report.container in EXACT and not _is_truncated(report) else None
    return declared is not None and report.reached_secs < declared - EXACT_SECS


def _damaged(errors: int) -> str:
    parts = "One part" if errors <= 1 else f"{errors:,} parts"
    return f"{parts} of the recording could not be decoded."


def _silent(report: Report) -> str:
    number = "Track " if len(report.silent_tracks) == 1 else "Tracks "
    silent = ", ".join(map(str, report.silent_tracks))
    return f"{number}{silent} without any sound: track {report.track} was transcribed."
