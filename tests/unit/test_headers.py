"""What headers declare about lengths, and how they look where nobody knew it; which damaged packets are damage."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.audio.decoder import headers
from gpu_worker.audio.decoder.damage import Damage
from tests.recordings.bench import wav

SOUND = b"\x01\xff" * 8000
SIZE_BYTES = 24
"""Of a chunk's name and size in a Wave64."""


def test_the_headers_of_wav() -> None:
    assert headers.wav_secs(wav(bytes(32_000))) == 1
    for size in (0, 0x7FFF_F000, 0x8000_0000, 0xFFFF_FFFF):
        assert headers.wav_secs(wav(bytes(100), size=size)) is None
        assert headers.has_wrong_size(wav(bytes(100), size=size), 144)
    assert not headers.has_wrong_size(wav(bytes(100)), 144)
    assert headers.wav_secs(b"OggS") is None
    assert headers.wav_secs(wav(bytes(100))[:30]) is None


def test_a_wav_that_goes_on_behind_its_size() -> None:
    """As a recorder leaves it that was switched off. Behind a right size there is a further chunk, or nothing."""
    samples = b"\x01\xff" * 5000
    assert headers.has_wrong_size(wav(samples, size=1000), 44 + 10_000)
    assert not headers.has_wrong_size(wav(samples) + b"LIST" + bytes(20_000), 30_000)
    assert not headers.has_wrong_size(wav(samples) + b"\xff\xff\xff\xff", 10_048)


def rf64(told: int) -> bytes:
    data = wav(SOUND, size=0xFFFF_FFFF)
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, 0, told, 0, 0)
    return b"RF64" + data[4:12] + ds64 + data[12:]


def test_the_headers_of_rf64() -> None:
    assert headers.wav_secs(rf64(16_000)) == 0.5
    assert not headers.has_wrong_size(rf64(16_000), 16_080)
    for told in (0, 1 << 63):
        assert headers.wav_secs(rf64(told)) is None
        assert headers.has_wrong_size(rf64(told), 16_080)


def aiff(whole: int, sound: int) -> bytes:
    common = b"COMM" + struct.pack(">IHIH", 18, 1, 8000, 16) + b"\x40\x0c\xfa\0\0\0\0\0\0\0"
    return (
        b"FORM"
        + struct.pack(">I", whole)
        + b"AIFF"
        + common
        + b"SSND"
        + struct.pack(">III", sound, 0, 0)
        + SOUND
    )


def wave64(whole: int, sound: int) -> bytes:
    return (
        headers.W64
        + struct.pack("<Q", whole)
        + bytes(16)
        + headers.W64_DATA
        + struct.pack("<Q", sound)
        + SOUND
    )


def avi(whole: int) -> bytes:
    return b"RIFF" + struct.pack("<I", whole) + b"AVI LIST" + SOUND


def real(packets: int) -> bytes:
    return b".RMF" + bytes(14) + b"PROP" + bytes(22) + struct.pack(">I", packets) + SOUND


def asf(size: int, packets: int) -> bytes:
    return (
        headers.ASF
        + bytes(8)
        + headers.ASF_PROPERTIES
        + bytes(24)
        + struct.pack("<QQQ", size, 0, packets)
        + SOUND
    )


def caf(sound: int) -> bytes:
    return b"caff\0\1\0\0desc" + bytes(40) + b"data" + struct.pack(">Q", sound) + SOUND


@pytest.mark.parametrize(
    ("head", "lacks"),
    [
        (aiff(16_054, 16_008), False),
        (aiff(0, 0), True),
        (aiff(0x7F00_0050, 0x7F00_0008), True),
        (avi(16_000), False),
        (avi(0), True),
        (avi(0xFFFF_FFFF), True),
        (real(100), False),
        (real(0), True),
        (asf(16_000, 5), False),
        (asf(413, 0), True),
        (wav(SOUND, size=0), False),
        (b"OggS", False),
        (b"", False),
    ],
)
def test_who_never_learned_its_length(head: bytes, lacks: bool) -> None:
    assert headers.lacks_length(head) is lacks


@pytest.mark.parametrize(
    ("whole", "never_learned"),
    [
        (lambda size: aiff(size - 8, 16_008), aiff(0, 0)),
        (lambda size: avi(size - 8), avi(0xFFFF_FFFF)),
        (lambda size: wave64(size, size), wave64((1 << 64) - 1, (1 << 63) - 1)),
        (lambda size: asf(size, 5), asf(413, 0)),
        (lambda size: caf(size - 64), caf((1 << 64) - 1)),
    ],
    ids=["aiff", "avi", "w64", "asf", "caf"],
)
def test_what_has_fewer_bytes_than_it_says_is_cut(whole, never_learned: bytes) -> None:  # type: ignore[no-untyped-def]
    size = 1_000_000
    assert headers.is_cut(whole(size), 600_000)
    assert not headers.is_cut(whole(size), size - 4000)
    assert not headers.is_cut(whole(size), size)
    assert not headers.is_cut(never_learned, 600)


def test_headers_get_the_sizes_that_ffmpeg_needs() -> None:
    data = aiff(0, 0)
    assert headers.with_sizes(data, len(data)) == aiff(len(data) - 8, 16_008)
    for told in (0, SIZE_BYTES - 1, (1 << 63) - 1, (1 << 64) - 1):
        data = wave64(0, told)
        assert headers.with_sizes(data, len(data)) == wave64(0, SIZE_BYTES + 16_000)


@pytest.mark.parametrize(
    "data", [aiff(16_054, 16_008), wave64(16_100, 16_024), wav(SOUND), b"", b"FORM\0\0\0\0AIFF"]
)
def test_what_ffmpeg_can_read_is_left_as_it_is(data: bytes) -> None:
    assert headers.with_sizes(data, len(data)) == data


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_header_that_ends_with_its_last_chunk(cut: int) -> None:
    for whole in (aiff(0, 0), wave64(0, 0)):
        head = whole[: whole.rindex(SOUND) - cut]
        headers.with_sizes(head, len(head))


MARKS = (
    b"RIFF\0\0\0\0WAVE",
    b"RF64\0\0\0\0WAVE",
    b"FORM\0\0\0\0AIFF",
    b"RIFF\0\0\0\0AVI ",
    b".RMF",
    b"caff",
    headers.W64,
    headers.ASF,
)


@given(st.sampled_from(MARKS), st.binary(max_size=200), st.integers(0, 1 << 40))
def test_no_header_breaks_anything(mark: bytes, rest: bytes, size: int) -> None:
    head = mark + rest
    headers.wav_secs(head)
    headers.has_wrong_size(head, size)
    headers.lacks_length(head)
    headers.is_cut(head, size)
    assert len(headers.with_sizes(head, size)) == len(head)


@pytest.mark.parametrize(
    ("packets", "inside", "at_end"),
    [
        ("", 0, False),
        ("gggg", 0, False),
        ("guggg", 1, False),
        ("gguu", 1, True),
        ("gggiii", 0, True),  # one that a parser has taken apart
        ("gggug", 0, True),  # the one behind it was in the parser
        ("gugiig", 1, True),
        ("u", 0, True),
    ],
)
def test_only_damage_at_the_end_means_that_it_was_cut(packets: str, inside: int, at_end: bool) -> None:
    damage = Damage()
    for packet in packets:
        {"g": damage.good, "u": damage.undecodable, "i": damage.incomplete}[packet]()
    assert (damage.inside, damage.at_end) == (inside, at_end)
    assert damage.any is (inside > 0 or at_end)
