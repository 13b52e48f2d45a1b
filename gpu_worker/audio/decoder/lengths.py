"""What is declared about the length of a file, and whether the file ends before that. Pure.

FFmpeg reports a length for every file. Sometimes it is the container's own; sometimes only the size divided by the bit rate, which
says nothing about a file with a changing bit rate; and of a WAV that was cut off it is what is left.
"""

TOLERANCE_SECS, TOLERANCE_SHARE = 1.0, 0.02
"""A file may be shorter than it declares by the larger of these two: encoders round, and add padding that decoders drop."""
GUESS_SHARE = 0.002
"""A length that is size by bit rate up to this share is a guess."""
PLACEHOLDER_BYTES = 0x7FF0_0000
"""Sizes from here on, and 0, stand in headers that were written before the size was known (0x7ffff000, 0x80000000, 0xffffffff)."""


def wav_secs(head: bytes) -> float | None:
    """Return the length that the header of a WAV declares, in seconds; None for other files and for placeholders."""
    found = _wav_data(head)
    if found is None:
        return None
    _, size, bytes_per_sec = found
    return size / bytes_per_sec if 0 < size < PLACEHOLDER_BYTES and bytes_per_sec > 0 else None


def has_wrong_size(head: bytes, file_size: int) -> bool:
    """Whether this is the beginning of a WAV whose header does not know how much comes: a placeholder, or far too little.

    Far too little is a size behind which no further chunk begins, in a file that goes on. `head` must reach behind the place
    where the data would end for this to be seen; a recorder that was switched off leaves a small size.
    """
    found = _wav_data(head)
    if found is None:
        return False
    begin, size, _ = found
    if size == 0 or size >= PLACEHOLDER_BYTES:
        return True
    behind = head[begin + size + size % 2 :][:4]
    goes_on = file_size - (begin + size) > size
    return len(behind) == 4 and goes_on and not (behind.isascii() and behind.decode("ascii").isprintable())


def _wav_data(head: bytes) -> tuple[int, int, int] | None:
    """Return where the samples of a WAV begin, how many bytes there are told to be, and bytes per second."""
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    at, bytes_per_sec = 12, 0
    while at + 8 <= len(head):
        name, size = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        if name == b"fmt ":
            bytes_per_sec = int.from_bytes(head[at + 16 : at + 20], "little")
        if name == b"data":
            return at + 8, size, bytes_per_sec
        at += 8 + size + size % 2
    return None


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
