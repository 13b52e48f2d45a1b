"""The container: it is opened, and says what is in it. Nothing is decoded here."""

from functools import cache
from typing import IO

import av
import msgspec
from av.audio.stream import AudioStream
from av.container import InputContainer

from gpu_worker.audio.decoder import headers, sentences
from gpu_worker.audio.decoder.protocol import RawFormat, TrackFacts
from schemas.errors import ErrorCode
from schemas.recordings import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE

UNKNOWN = "unknown"
"""Name of a codec that FFmpeg has no decoder for."""
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
    """A file as PyAV reads it, with other first bytes where those that it has are wrong.

    A damaged container makes FFmpeg seek to places that are none, which is no error of the disk.
    """

    def __init__(self, file: IO[bytes], head: bytes) -> None:
        self._file, self._head = file, head
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        """Read on."""
        at = self._file.tell()
        data = self._file.read(size)
        if at >= len(self._head):
            return data
        known = self._head[at : at + len(data)]
        return known + data[len(known) :]

    def seek(self, offset: int, whence: int = 0) -> int:
        """Return the new position; -1 where it cannot be."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


RAW_ENDINGS = frozenset({"al", "sb", "sw", "ub", "ul", "uw"})
"""Of samples without a header, which FFmpeg would read as 44,100 a second: the option `format` is for them."""


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
    if not head:
        raise Undecodable(ErrorCode.AUDIO_EMPTY, "The file is empty.")
    if raw is not None:
        options |= {"sample_rate": str(raw.sample_rate), "ch_layout": f"{raw.channels} channels"}
        source = _open(file, head, raw.name, options)
    elif (kind := sentences.refused_kind(head)) is not None:
        raise Undecodable(ErrorCode.AUDIO_UNDECODABLE, f"The file is {kind}, which is not read here.")
    else:
        if headers.has_wrong_size(head, ends.size):
            options["ignore_length"] = "1"
        source = _open(file, headers.with_sizes(head, ends.size), None, options)
        if source is None or not source.streams.audio:
            # Some formats without a mark of their own look like an elementary stream of pictures.
            source = _by_ending(file, head, ending) or source
    if source is None:
        raise Undecodable(ErrorCode.AUDIO_UNDECODABLE, sentences.cannot_be_read(head + ends.tail, ending))
    return source


def _open(file: IO[bytes], head: bytes, name: str | None, options: dict[str, str]) -> InputContainer | None:
    file.seek(0)
    try:
        return av.open(_Readable(file, head), "r", format=name, options=options)
    except (av.FFmpegError, ValueError):
        return None


def _by_ending(file: IO[bytes], head: bytes, ending: str) -> InputContainer | None:
    """Open a file by what its name ends with; None where there is no sound in it."""
    for name in _formats_by_ending().get(ending, ()):
        source = _open(file, head, name, NO_PROTOCOL)
        if source is not None and source.streams.audio:
            return source
    return None


@cache
def _formats_by_ending() -> dict[str, list[str]]:
    """Return the names of FFmpeg's demuxers by what names of files end with."""
    table: dict[str, list[str]] = {}
    for name in sorted(av.formats_available):
        try:
            endings = av.ContainerFormat(name, "r").extensions
        except ValueError:
            continue  # It can only be written.
        for ending in endings - RAW_ENDINGS:
            table.setdefault(ending, []).append(name)
    return table


def tracks(container: InputContainer, head: bytes) -> list[TrackFacts]:
    """Return the audio tracks. `head` is the beginning of the file. Raises Undecodable where there is none."""
    found = [_facts(number, stream) for number, stream in enumerate(container.streams.audio, 1)]
    if not found:
        others = sorted({str(stream.type) for stream in container.streams})
        message = sentences.no_audio(head, short_name(container), others)
        raise Undecodable(ErrorCode.AUDIO_NO_STREAM, message)
    return found


def check_track(track: TrackFacts, container: str) -> None:
    """Check that there is a decoder for a track, and that it declares what a recording can be. Raises Undecodable."""
    if track.codec == UNKNOWN:
        message = f"There is no decoder here for the sound of this file (format {container})."
        raise Undecodable(ErrorCode.AUDIO_UNDECODABLE, message)
    check_sound(track.sample_rate, track.channels)


def check_sound(sample_rate: int, channels: int) -> None:
    """Check that a frame declares what a recording can be. Raises Undecodable."""
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
        codec=context.codec.canonical_name if context else UNKNOWN,
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
