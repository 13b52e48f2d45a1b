"""What recordings are made of: one spoken file, the ffmpeg command, and hands that damage what it has made."""

import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.http import AUDIO

SPOKEN = AUDIO / "english.flac"
RATE = 16_000
PICTURE = ("-f", "lavfi", "-i", "testsrc=s=64x64:r=10:d=13")


class Bench:
    """A folder and an ffmpeg. Every recording is made of the same three phrases."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder, self.program = folder, program
        folder.mkdir(parents=True, exist_ok=True)
        self.base = folder / "base.wav"
        if not self.base.exists():
            self.run("-i", str(SPOKEN), "-c:a", "pcm_s16le", "-bitexact", to="base.wav")

    def run(self, *arguments: str, to: str) -> bytes:
        """Run ffmpeg, and return what it has written to the file `to`. Raises CalledProcessError."""
        path = self.folder / to
        command = [self.program, "-nostdin", "-v", "error", "-y", *arguments, str(path)]
        subprocess.run(command, check=True, capture_output=True)
        return path.read_bytes()

    def encode(self, to: str, *options: str) -> bytes:
        """Return the phrases, encoded."""
        return self.run("-i", str(self.base), *options, to=to)

    def piped(self, kind: str, *options: str) -> bytes:
        """Return the phrases as ffmpeg writes them into a pipe. `kind` is its name of the format. Raises CalledProcessError."""
        command = [self.program, "-nostdin", "-v", "error", "-i", str(self.base), *options, "-f", kind, "-"]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def filtered(self, filters: str, to: str, *options: str) -> bytes:
        """Return the phrases behind a filter of ffmpeg."""
        return self.run("-i", str(self.base), "-filter_complex", filters, *options, to=to)

    def film(self, to: str, *options: str, late: str = "0") -> bytes:
        """Return the phrases with a picture of 13 s, `late` seconds behind its beginning."""
        sound = ("-itsoffset", late, "-i", str(self.base))
        return self.run(*PICTURE, *sound, "-map", "0:v", "-map", "1:a", "-c:v", "mpeg4", *options, to=to)

    def samples(self) -> bytes:
        """Return the phrases as 16-bit samples without a header."""
        return self.base.read_bytes()[44:] if self.base.read_bytes()[36:40] == b"data" else _data(self.base)


Made = Callable[[Bench], bytes]


def wav(samples: bytes, *, channels: int = 1, rate: int = RATE, size: int | None = None) -> bytes:
    """Return a WAV of 16-bit samples. `size` is what its header says that there is."""
    told = len(samples) if size is None else size
    kind = struct.pack("<IHHIIHH", 16, 1, channels, rate, 2 * channels * rate, 2 * channels & 0xFFFF, 16)
    return b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + kind + b"data" + struct.pack("<I", told) + samples


def on_channel(samples: bytes, number: int, channels: int) -> bytes:
    """Return a WAV in which only one channel, counted from 1, speaks."""
    before, behind = bytes(2 * (number - 1)), bytes(2 * (channels - number))
    frames = (before + samples[at : at + 2] + behind for at in range(0, len(samples), 2))
    return wav(b"".join(frames), channels=channels)


def two_speakers(samples: bytes) -> bytes:
    """Return a stereo WAV: the second phrase is on the right, the others on the left."""
    cut, end = 2 * int(1.7 * RATE), 2 * int(4.5 * RATE)
    frames = (
        bytes(2) + samples[at : at + 2] if cut <= at < end else samples[at : at + 2] + bytes(2)
        for at in range(0, len(samples), 2)
    )
    return wav(b"".join(frames), channels=2)


def cut(data: bytes, share: float) -> bytes:
    """Return the beginning."""
    return data[: int(len(data) * share)]


def damaged(data: bytes, at: float, count: int) -> bytes:
    """Return the data with other bytes at a place."""
    begin, other = int(len(data) * at), random.Random(1).randbytes(count)
    return data[:begin] + other + data[begin + count :]


def without(data: bytes, begin: float, end: float, unit: int = 1) -> bytes:
    """Return the data without the part between two shares of it, in whole units."""
    first, last = (int(len(data) * share) // unit * unit for share in (begin, end))
    return data[:first] + data[last:]


def _data(path: Path) -> bytes:
    content = path.read_bytes()
    return content[content.index(b"data") + 8 :]
