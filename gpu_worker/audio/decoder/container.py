"""The container: it is opened, and says what is in it. Nothing is decoded here."""

from typing import IO

import av
import msgspec
from av.audio.stream import AudioStream
from av.container import InputContainer

from gpu_worker.audio.decoder import lengths, sentences
from gpu_worker.audio.decoder.protocol import RawFormat, TrackFacts
from schemas.errors import ErrorCode
from schemas.recordings import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE

LABEL_CHARS = 200
"""Titles are clipped to this. They are shown, and decide nothing."""
HEAD_BYTES, TAIL_BYTES = 256 * 1024, 128 * 1024
NO_PROTOCOL = {"protocol_whitelist": "none"}
"""The file itself is read by Python. So whatever else a container names, a playlist for example, cannot be opened by FFmpeg."""


class Undecodable(Exception):
    """Nothing in this file can be decoded; the sentence is for people."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class _Readable:
    """A file as PyAV reads it. A damaged container makes FFmpeg seek to places that are none, which is no error of the disk."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read, self.tell = file.read, file.tell
        self._seek = file.seek

    def seek(self, offset: int, whence: int = 0) -> int:
        """Return the new position; -1 where it cannot be."""
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


NAMELESS = {
    "g722": "g722",
    "722": "g722",
    "g729": "g729",
    "tco": "g723_1",
    "sbc": "sbc",
    "msbc": "sbc",
    "aptx": "aptx",
    "aptxhd": "aptx_hd",
}
"""Formats without a mark of their own, by what names of files end with, and FFmpeg's names of their demuxers."""


class Ends(msgspec.Struct, frozen=True):
    """What is looked at of a file beside what FFmpeg says of it."""

    head: bytes
    """The first HEAD_BYTES: formats, and the length that a WAV declares."""
    tail: bytes
    """The last TAIL_BYTES: more than a page of Ogg, for files that were cut off."""
    size: int


def ends_of(file: IO[bytes]) -> Ends:
    """Read the beginning and the end of a file that is not opened as a container yet. Raises OSError."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    size = file.seek(0, 2)
    file.seek(max(0, size - TAIL_BYTES))
    return Ends(head, file.read(), size)


def open_container(file: IO[bytes], ends: Ends, raw: RawFormat | None, ending: str = "") -> InputContainer:
    """Open the container. `ending` is what the file's name ends with. Raises Undecodable."""
    head, options = ends.head, dict(NO_PROTOCOL)
    if raw is not None:
        options |= {"sample_rate": str(raw.sample_rate), "ch_layout": f"{raw.channels} channels"}
    elif lengths.has_wrong_size(head, ends.size):
        options["ignore_length"] = "1"
    if not head:
        raise Undecodable(ErrorCode.AUDIO_EMPTY, "The file is empty.")
    if (kind := sentences.refused_kind(head)) is not None and raw is None:
        raise Undecodable(ErrorCode.AUDIO_UNDECODABLE, f"The file is {kind}, which is not read here.")
    names = [raw.name] if raw else [None, *([NAMELESS[ending]] if ending in NAMELESS else [])]
    for name in names:
        file.seek(0)
        try:
            return av.open(_Readable(file), "r", format=name, options=options)
        except (av.FFmpegError, ValueError) as error:
            reason = error
    raise Undecodable(ErrorCode.AUDIO_UNDECODABLE, sentences.cannot_be_read(head + ends.tail)) from reason


def tracks(container: InputContainer, head: bytes) -> list[TrackFacts]:
    """Return the audio tracks. `head` is the beginning of the file. Raises Undecodable where there is none."""
    found = [_facts(number, stream) for number, stream in enumerate(container.streams.audio, 1)]
    if not found:
        others = sorted({str(stream.type) for stream in container.streams})
        message = sentences.no_audio(head, short_name(container), others)
        raise Undecodable(ErrorCode.AUDIO_NO_STREAM, message)
    return found


def check_sound(sample_rate: int, channels: int) -> None:
    """Check that a track or a frame declares what a recording can be. Raises Undecodable."""
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        what = f"a sample rate of {sample_rate:,} Hz"
    elif not 1 <= channels <= MAX_CHANNELS:
        what = f"{channels:,} channels" if channels else "a number of channels"
    else:
        return
    raise Undecodable(ErrorCode.AUDIO_UNDECODABLE, f"The file declares {what}, which no recording has.")


def short_name(container: InputContainer) -> str:
    """Return FFmpeg's name of the container. Where it has several, the first one."""
    return str(container.format.name).split(",")[0]


def channel_names(layout: str, channels: int) -> list[str]:
    """Return FFmpeg's name of each channel of a layout; empty strings where nobody says which is where."""
    try:
        names = [channel.name for channel in av.AudioLayout(layout).channels]
    except (ValueError, av.FFmpegError):
        names = []
    known = len(names) == channels and not layout.endswith("channels") and "NONE" not in names
    return names if known else [""] * channels


def _facts(number: int, stream: AudioStream) -> TrackFacts:
    context = stream.codec_context
    title = stream.metadata.get("title")
    return TrackFacts(
        number=number,
        codec=context.codec.canonical_name if context else "unknown",
        channels=context.channels if context else 0,
        layout=context.layout.name[:LABEL_CHARS] if context else "",
        sample_rate=(context.sample_rate or 0) if context else 0,
        start_secs=seconds(stream.start_time, stream) or 0.0,
        title=title[:LABEL_CHARS] if title else None,
        is_default=bool(stream.disposition & stream.disposition.default),
    )


def seconds(stamp: int | None, stream: AudioStream) -> float | None:
    """Return a time stamp of a stream in seconds."""
    return None if stamp is None or stream.time_base is None else float(stamp * stream.time_base)
