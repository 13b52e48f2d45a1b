"""Recordings whose headers were written before their length was known, and whose ends are no end of a packet."""

from functools import partial

from schemas.errors import ErrorCode
from schemas.recordings import WarningCode
from tests.recordings.bench import Bench, cut
from tests.recordings.recording import LOSSY, Recording


def _piped(name: str, *options: str, accuracy: float = 1.0) -> Recording:
    """Return a recording that ffmpeg has written into a pipe; its name ends like the format."""
    return Recording(
        f"piped {name}",
        partial(_pipe, kind=name.split(".")[-1], options=options),
        accuracy=accuracy,
        rare=True,
    )


def _pipe(bench: Bench, kind: str, options: tuple[str, ...]) -> bytes:
    return bench.piped(kind, *options)


def _with(name: str, kind: str, at: int, content: bytes, options: tuple[str, ...] = ()) -> Recording:
    """Return a recording that has these bytes at this place of its header."""

    def made(bench: Bench) -> bytes:
        data = bench.encode(f"whole.{kind}", *options)
        return data[:at] + content + data[at + len(content) :]

    return Recording(f"{name}.{kind}", made, rare=True)


PIPED = [
    _piped("16 bits.aiff"),
    _piped("16 bits.caf"),
    _piped("16 bits.w64"),
    _piped("16 bits.au"),
    _piped("RF64.wav", "-rf64", "always"),
    _piped("MP3.wav", "-c:a", "libmp3lame", accuracy=LOSSY),
    _piped("A-law.aiff", "-c:a", "pcm_alaw"),
    _piped("PCM.avi", "-c:a", "pcm_s16le"),
    _piped("Windows Media.asf", "-c:a", "wmav2", "-b:a", "64k"),
    _piped("RealMedia.rm", "-ar", "48000", "-c:a", "ac3", accuracy=LOSSY),
    _piped("FLAC.flac"),
    _piped("Opus.webm", "-c:a", "libopus"),
    _piped("Opus.matroska", "-c:a", "libopus"),
    _piped("Opus.ogg", "-c:a", "libopus"),
    _piped("MP3.mp3", "-b:a", "64k"),
    _piped("MP3.flv", "-ar", "44100", "-c:a", "libmp3lame"),
    _piped("FLAC.nut", "-c:a", "flac"),
    _piped("True Audio.tta"),
    _piped("WavPack.wv"),
    _with("size of sox", "aiff", 4, b"\x7f\0\0\x50"),
    _with("size of nobody", "avi", 4, b"\xff\xff\xff\xff", ("-c:a", "pcm_s16le")),
]
ENDS = [
    Recording("an end mark behind it.adx", lambda b: b.encode("e.adx"), accuracy=LOSSY, rare=True),
    Recording(
        "half a block at its end.aptx", lambda b: b.encode("e.aptx", "-ar", "48000", "-ac", "2"), rare=True
    ),
    Recording(
        "half a block at its end.aptxhd",
        lambda b: b.run("-i", str(b.base), "-ar", "48000", "-ac", "2", "-f", "aptx_hd", to="e.aptxhd"),
        rare=True,
    ),
    Recording(
        "no mark of its own.sln",
        lambda b: b.run("-i", str(b.base), "-ar", "8000", "-f", "s16le", to="e.sln"),
        accuracy=LOSSY,
        rare=True,
    ),
    Recording(
        "samples without a header.ul",
        lambda b: b.run("-i", str(b.base), "-ar", "8000", "-f", "mulaw", to="e.ul"),
        (),
        error=ErrorCode.AUDIO_UNDECODABLE,
        says="need the options",
        rare=True,
    ),
]


def _cut(kind: str, *options: str) -> Recording:
    return Recording(
        f"fewer bytes than told.{kind}",
        lambda bench: cut(bench.encode(f"all.{kind}", *options), 0.6),
        (0, 1),
        warnings=(WarningCode.AUDIO_TRUNCATED,),
        rare=True,
    )


CUT_BYTES = [
    _cut("caf"),
    _cut("w64"),
    _cut("avi", "-c:a", "pcm_s16le"),
    _cut("asf", "-c:a", "wmav2", "-b:a", "64k"),
    _cut("aiff"),
]
