"""What is transcribed: three recordings of the test suite, and what they say."""

import io
import subprocess
from functools import cache
from pathlib import Path

import msgspec

from tests.faults.matrix.checking import Spoken
from tests.support.ffmpeg import ffmpeg
from tests.support.http import AUDIO, EXPECTED


class Recording(msgspec.Struct, frozen=True):
    name: str
    spoken: Spoken
    large: bool = False
    """As an uncompressed file, of many chunks in the store."""

    def content(self) -> bytes:
        return _large(self.name) if self.large else (AUDIO / self.name).read_bytes()


def _spoken(name: str, exact: bool) -> Spoken:
    phrases = EXPECTED[name]["phrases"]
    return Spoken(
        text=" ".join(phrase["text"] for phrase in phrases),
        phrases=[(phrase["start"], phrase["end"]) for phrase in phrases],
        exact=exact,
    )


SHORT = Recording("telephone.wav", _spoken("telephone.wav", exact=True))
LONG = Recording("long.ogg", _spoken("long.ogg", exact=False))
"""Of several stretches: it may be cut at other places after a fault."""
LARGE = Recording("english.flac", _spoken("english.flac", exact=True), large=True)


@cache
def _large(name: str) -> bytes:
    command = [
        ffmpeg(),
        "-v",
        "error",
        "-i",
        str(Path(AUDIO) / name),
        "-ac",
        "2",
        "-ar",
        "48000",
        "-f",
        "wav",
        "-",
    ]
    return io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout).getvalue()
