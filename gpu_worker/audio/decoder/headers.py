"""What the first bytes of a file declare about its length, and how that looks where the writer never learned it. Pure.

Who writes into a pipe, or loses power, cannot go back to fill the length in. Then the header has a placeholder, which is different
for each format and program. FFmpeg takes some of them for lengths, and refuses files with others.
"""

import struct

PLACEHOLDER_BYTES = 0x7FF0_0000
"""Sizes of WAV and AVI from here on, and 0, stand in headers that were written before the size was known.

Seen are 0x7ffff000, 0x80000000 and 0xffffffff.
"""
AIFF_PLACEHOLDER_BYTES = 0x7F00_0000
"""The same of AIFF, which sox gives 0x7f000050."""
WIDE_PLACEHOLDER_BYTES = 1 << 62
"""The same of formats with sizes of 64 bits."""
MISSING_BYTES, MISSING_SHARE = 4096, 0.005
"""What may be missing of a whole file, the larger of these: padding that is counted and not written."""
W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0"
W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a"
W64_CHUNK_HEAD_BYTES = 24
"""Counted in the size of each chunk of a Wave64."""
ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
ASF_PROPERTIES = b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\0\xc0\x0c\x20\x53\x65"
"""The File Properties Object: behind this name come its size, a name of 16 bytes, the file's size, a date, the number of packets."""


def wav_secs(head: bytes) -> float | None:
    """Return the length that the header of a WAV declares, in seconds; None for other files and for placeholders."""
    found = _wav_data(head)
    if found is None:
        return None
    _, size, bytes_per_sec = found
    return None if _is_placeholder(head, size) or bytes_per_sec <= 0 else size / bytes_per_sec


def has_wrong_size(head: bytes, file_size: int) -> bool:
    """Whether this is the beginning of a WAV whose header does not know how much comes: a placeholder, or far too little.

    Far too little is a size behind which no further chunk begins, in a file that goes on. `head` must reach behind the place
    where the data would end for this to be seen; a recorder that was switched off leaves a small size.
    """
    found = _wav_data(head)
    if found is None:
        return False
    begin, size, _ = found
    if _is_placeholder(head, size):
        return True
    behind = head[begin + size + size % 2 :][:4]
    goes_on = file_size - (begin + size) > size
    return len(behind) == 4 and goes_on and not (behind.isascii() and behind.decode("ascii").isprintable())


def _is_placeholder(head: bytes, size: int) -> bool:
    return size == 0 or size >= (PLACEHOLDER_BYTES if head[:4] == b"RIFF" else WIDE_PLACEHOLDER_BYTES)


def _wav_data(head: bytes) -> tuple[int, int, int] | None:
    """Return where the samples of a WAV begin, how many bytes there are told to be, and bytes per second."""
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:12] != b"WAVE":
        return None
    at, bytes_per_sec, wide = 12, 0, 0
    while at + 8 <= len(head):
        name, size = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        if name == b"ds64":
            wide = int.from_bytes(head[at + 16 : at + 24], "little")
        if name == b"fmt ":
            bytes_per_sec = int.from_bytes(head[at + 16 : at + 20], "little")
        if name == b"data":
            return at + 8, size if head[:4] == b"RIFF" else wide, bytes_per_sec
        at += 8 + size + size % 2
    return None


def lacks_length(head: bytes) -> bool:
    """Whether this is an AIFF, AVI, RealMedia or ASF with a placeholder, so that the length FFmpeg reports is none."""
    if _is_iff(head) or _is_avi(head):
        return _declared_bytes(head) is None
    if head[:4] == b".RMF":
        at = head.find(b"PROP")
        return at >= 0 and head[at + 26 : at + 30] == bytes(4)
    if head[:8] == ASF:
        at = head.find(ASF_PROPERTIES)
        return at >= 0 and head[at + 56 : at + 64] == bytes(8)
    return False


def is_cut(head: bytes, file_size: int) -> bool:
    """Whether a file has clearly fewer bytes than its header declares. Of a WAV its length says this better."""
    declared = _declared_bytes(head)
    return declared is not None and file_size < declared - max(MISSING_BYTES, MISSING_SHARE * declared)


def _declared_bytes(head: bytes) -> int | None:
    """Return how many bytes the whole file has, as far as it says so; None where it does not, or has a placeholder."""
    if _is_iff(head):
        size = int.from_bytes(head[4:8], "big")
        return size + 8 if 0 < size < AIFF_PLACEHOLDER_BYTES else None
    if _is_avi(head):
        size = int.from_bytes(head[4:8], "little")
        return size + 8 if 0 < size < PLACEHOLDER_BYTES else None
    if head[:16] == W64:
        size = int.from_bytes(head[16:24], "little")
        return size if 0 < size < WIDE_PLACEHOLDER_BYTES else None
    if head[:8] == ASF:
        at = head.find(ASF_PROPERTIES)
        size = int.from_bytes(head[at + 40 : at + 48], "little")
        return size if at >= 0 and not lacks_length(head) and size < WIDE_PLACEHOLDER_BYTES else None
    if head[:4] == b"caff":
        at = head.find(b"data")
        size = int.from_bytes(head[at + 4 : at + 12], "big")
        return at + 12 + size if at >= 0 and size < WIDE_PLACEHOLDER_BYTES else None
    return None


def _is_iff(head: bytes) -> bool:
    return head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV", b"MAUD")


def _is_avi(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"AVI "


def with_sizes(head: bytes, file_size: int) -> bytes:
    """Return the first bytes as FFmpeg can read them: an AIFF or Wave64 that has placeholders gets the sizes that it really has."""
    if head[:8] == b"FORM\0\0\0\0" and _is_iff(head):
        at = head.find(b"SSND")
        if at >= 0:
            whole, sound = (
                struct.pack(">I", max(0, min(file_size - begin, 0x7FFF_FFFF))) for begin in (8, at + 8)
            )
            return head[:4] + whole + head[8 : at + 4] + sound + head[at + 8 :]
    if head[:16] == W64:
        at = head.find(W64_DATA)
        size = int.from_bytes(head[at + 16 : at + 24], "little")
        if at >= 0 and (size <= W64_CHUNK_HEAD_BYTES or size >= WIDE_PLACEHOLDER_BYTES):
            return head[: at + 16] + struct.pack("<Q", max(0, file_size - at)) + head[at + 24 :]
    return head
