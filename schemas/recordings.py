"""What a job asks of a recording, and what it tells of it: channels, tracks, formats, warnings."""

from typing import Annotated

import msgspec

from schemas.enums import Asked, Told
from schemas.limits import Count, Label, Text

MAX_CHANNELS = 64
"""What a sound card or a mixer records at once."""
MAX_TRACK = 1000
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 2_000, 12_288_000
"""Below is no speech; above is nothing that FFmpeg decodes (DSD512 comes as 2.8 MHz)."""
MIX, SPLIT = "mix", "split"
MAX_WARNINGS = 32
"""Limit of the list of warnings: more than there are, for later versions."""


class SampleFormat(Asked):
    """What samples without a header are. The names are FFmpeg's."""

    U8 = "u8"
    S8 = "s8"
    S16LE = "s16le"
    S16BE = "s16be"
    S24LE = "s24le"
    S24BE = "s24be"
    S32LE = "s32le"
    S32BE = "s32be"
    F32LE = "f32le"
    F32BE = "f32be"
    F64LE = "f64le"
    F64BE = "f64be"
    ALAW = "alaw"
    MULAW = "mulaw"


def channel_number(channels: int | str) -> int | None:
    """Return which channel the option `channels` asks for, counted from 1; None for another value. A form has it as text."""
    if isinstance(channels, str):
        channels = int(channels) if channels.isascii() and channels.isdecimal() and len(channels) <= 2 else 0
    return channels if 1 <= channels <= MAX_CHANNELS else None


class WarningCode(Told):
    """What a job that is done has to say about its recording. Stable: new ones are added, none is renamed."""

    AUDIO_TRUNCATED = "audio_truncated"
    """The file ends before the length that it declares, or in the middle of something."""
    AUDIO_DAMAGED = "audio_damaged"
    """Parts of the file could not be decoded. Their time is silent."""
    CHANNELS_DIFFER = "channels_differ"
    """The channels that were mixed have different things to say, or one is the other turned round."""
    CHANNELS_SAME = "channels_same"
    """The channels that were transcribed one by one are the same recording."""
    QUIET = "quiet"
    """The recording is very quiet, and was raised."""
    SILENT = "silent"
    """There is no sound at all."""
    TRACK_SILENT = "track_silent"
    """The default track has no sound, and another one was taken."""
    UNKNOWN = "unknown"
    """A code of a later version. The sentence beside it says what it is."""


class JobWarning(msgspec.Struct, kw_only=True, frozen=True):
    """Something about the recording that whoever reads the transcript should know."""

    code: WarningCode
    message: Text


class Source(msgspec.Struct, kw_only=True, frozen=True):
    """What was transcribed, as the container describes it."""

    container: Label
    """FFmpeg's short name of the container, such as `mov` or `wav`."""
    codec: Label
    track: Count
    """Number of the audio track that was taken, counted from 1."""
    tracks: Count
    """How many audio tracks there are."""
    title: Label | None = None
    """Title of the track."""
    channels: Count
    layout: Label
    """FFmpeg's name of the channel layout, such as `stereo`."""
    sample_rate: Count
    """Samples per second."""
    start_secs: float = 0.0
    """Time stamp of the track's first sample in the container."""


Warnings = Annotated[tuple[JobWarning, ...], msgspec.Meta(max_length=MAX_WARNINGS)]
