"""What the length that FFmpeg reports is worth, and whether a file ends before that. Pure.

FFmpeg reports a length for every file. Sometimes it is the container's own; sometimes only the size divided by the bit rate, which
says nothing about a file with a changing bit rate; and of a WAV that was cut off it is what is left.
"""

TOLERANCE_SECS, TOLERANCE_SHARE = 1.0, 0.02
"""A file may be shorter than it declares by the larger of these two: encoders round, and add padding that decoders drop."""
GUESS_SHARE = 0.002
"""A length that is size by bit rate up to this share is a guess."""
UNDECLARED = frozenset(
    {"aac", "ac3", "amr", "amrnb", "amrwb", "dts", "eac3", "g722", "g729", "gsm", "loas", "sbc", "truehd"}
)
"""Containers that are nothing but packets: what FFmpeg reports as their length is a guess."""
BLOCKS = ("pcm_", "adpcm_", "aptx", "dfpwm", "dsd_")
"""Codecs, by the beginning of their names, of which FFmpeg reads so and so many bytes at a time: the last packet may be any size."""


def ends_inside_ogg_page(tail: bytes) -> bool:
    """Whether the last page of an Ogg file is not whole. `tail` is the end of the file, of at least a page (65,307 bytes)."""
    at = tail.rfind(b"OggS")
    if at < 0 or at + 27 > len(tail):
        return at >= 0
    table = tail[at + 27 : at + 27 + tail[at + 26]]
    return at + 27 + tail[at + 26] + sum(table) > len(tail)


def is_guess(declared_secs: float, audio_bytes: int, bit_rate: int | None) -> bool:
    """Whether a length is only the number of bytes divided by the bit rate (bits per second)."""
    if not bit_rate:
        return False
    guess = audio_bytes * 8 / bit_rate
    return abs(guess - declared_secs) <= max(GUESS_SHARE * declared_secs, 0.001)


def is_short(declared_secs: float | None, ended_secs: float) -> bool:
    """Whether a file that ends at `ended_secs` has less than it declares."""
    if declared_secs is None:
        return False
    return ended_secs < declared_secs - max(TOLERANCE_SECS, TOLERANCE_SHARE * declared_secs)
