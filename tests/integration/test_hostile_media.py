"""Media that are made to cost much or to break out: what they may take is bounded, and what they ask for is refused."""

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpu_worker.audio import decoding as audio
from gpu_worker.audio.decoding import Limits
from schemas.errors import ErrorCode
from tests.recordings.bench import Bench, wav
from tests.support.ffmpeg import carried

AT_ONCE_SECS = 2.0


def crc(data: bytes, polynomial: int, bits: int) -> int:
    value, top = 0, 1 << (bits - 1)
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = ((value << 1) ^ polynomial if value & top else value << 1) & ((1 << bits) - 1)
    return value


def flac_of_silence(hours: float) -> bytes:
    """Hours at 8 kHz, mono, in frames of 4 s: about 10 KB an hour."""
    block, rate = 32_768, 8_000
    count = int(hours * 3600 * rate / block)
    bits = rate << 44 | 0 << 41 | 15 << 36 | count * block
    info = struct.pack(">HH", block, block) + bytes(6) + bits.to_bytes(8, "big") + bytes(16)
    frames = []
    for number in range(count):
        coded = chr(number + (0x800 if 0xD800 <= number < 0xE000 else 0)).encode("utf-8", "surrogatepass")
        head = b"\xff\xf8\xf4\x08" + coded
        frame = head + bytes([crc(head, 7, 8)]) + b"\0\0\0"
        frames.append(frame + crc(frame, 0x8005, 16).to_bytes(2, "big"))
    return b"fLaC\x80\0\0\x22" + info + b"".join(frames)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return flac_of_silence(28)


async def refused(path: Path, content: bytes, **limits: float) -> audio.DecodeError:
    """Why it is refused, which must be at once."""
    path.write_bytes(content)
    begun = time.monotonic()
    with pytest.raises(audio.DecodeError) as caught:
        await audio.decode(path, path.parent, limits=Limits(**limits))
    took = time.monotonic() - begun
    print(f"refused after {took:.2f} s: {caught.value}")
    assert took < AT_ONCE_SECS
    assert sum(file.stat().st_blocks * 512 for file in path.parent.glob("*.pcm")) < 300_000_000
    return caught.value


async def test_28_hours_in_300_kilobytes(tmp_path: Path, bomb: bytes) -> None:
    assert len(bomb) < 350_000
    error = (await refused(tmp_path / "bomb.flac", bomb)).error
    assert error.code is ErrorCode.AUDIO_UNDECODABLE
    assert "which no recording has" in error.message


@pytest.mark.parametrize("rate", [1, 100, 1999, 2**31])
async def test_absurd_sample_rates(tmp_path: Path, rate: int) -> None:
    error = (await refused(tmp_path / "a.wav", wav(bytes(200_000), rate=min(rate, 2**30)))).error
    assert error.code is ErrorCode.AUDIO_UNDECODABLE


@pytest.mark.parametrize("channels", [65, 200, 65_535])
async def test_absurd_numbers_of_channels(tmp_path: Path, channels: int) -> None:
    error = (await refused(tmp_path / "a.wav", wav(bytes(channels * 20), channels=channels))).error
    assert error.code is ErrorCode.AUDIO_UNDECODABLE


async def test_a_hole_of_days_takes_no_time_and_no_room(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "made", carried())
    content = bench.run(
        *("-i", str(bench.base), "-af", "asetpts=PTS+gt(T\\,1.6)*90000/TB"),
        *("-c:a", "flac", "-max_interleave_delta", "0"),
        to="hole.mka",
    )
    error = (await refused(tmp_path / "hole.mka", content)).error
    assert error.code is ErrorCode.AUDIO_TOO_LONG


def confined(tmp_path: Path, then: str) -> "subprocess.CompletedProcess[str]":
    """Run Python code behind the decoder's walls."""
    code = (
        "import socket, os, subprocess, resource\n"
        "from gpu_worker.audio.decoder.confinement import confine\n"
        f"confine(cpu_secs=1, file_bytes=1_000_000)\n{then}"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no seccomp")
@pytest.mark.parametrize(
    "code",
    [
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "socket.socketpair()",
        "os.execv('/bin/true', ['true'])",
    ],
)
def test_neither_sockets_nor_programs(tmp_path: Path, code: str) -> None:
    done = confined(tmp_path, code)
    assert done.returncode == 1
    assert "PermissionError" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other limits")
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("bytearray(2**30)", "MemoryError"),
        ("open({path!r}, 'wb').write(bytes(2_000_000))", "File too large"),
        ("[os.open('/dev/null', os.O_RDONLY) for _ in range(1000)]", "Too many open files"),
    ],
)
def test_limits_of_what_it_takes(tmp_path: Path, code: str, error: str) -> None:
    done = confined(tmp_path, code.format(path=str(tmp_path / "x")))
    assert error in done.stderr


def test_the_limit_of_cpu_time(tmp_path: Path) -> None:
    assert confined(tmp_path, "while True: pass").returncode < 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such flag")
def test_no_new_privileges(tmp_path: Path) -> None:
    done = confined(tmp_path, "print(open('/proc/self/status').read())")
    assert "NoNewPrivs:\t1" in done.stdout
    assert "Seccomp:\t2" in done.stdout


async def test_a_decoder_that_says_nonsense_fails_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(bytes(100)))
    command = ["/bin/sh", "-c", f"echo {json.dumps(json.dumps({'kind': 'other'}))}"]
    with pytest.raises(audio.DecodeError):
        await audio.decode(tmp_path / "a.wav", tmp_path, command=command)
