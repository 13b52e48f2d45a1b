"""Check that a file is a whole whisper model, by a walk over its structure that does not read its weights.

whisper.cpp crashes on the first use of a bad file, or, when the file is cut late enough, works on damaged weights without an
error. The layout is whisper.cpp's: magic, 11 numbers, mel filters, vocabulary, tensors.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import msgspec

from gpu_worker.engine.library import BadModelFile

MAGIC = b"lmgg"
BLOCKS = {
    0: (4, 1),
    1: (2, 1),
    2: (18, 32),
    3: (20, 32),
    6: (22, 32),
    7: (24, 32),
    8: (34, 32),
    10: (84, 256),
    11: (110, 256),
    12: (144, 256),
    13: (176, 256),
    14: (210, 256),
    30: (2, 1),
}
"""Number of a ggml type to (bytes per block, values per block), from ggml.h and ggml-common.h."""
MEL_FFT = 201
"""Frequencies of whisper's mel filters: half of its 400-sample window, and one."""

MULTILINGUAL_VOCAB = 51_865
"""Tokens of the smallest multilingual vocabulary. English-only models have one less."""


class ModelFile(msgspec.Struct, kw_only=True, frozen=True):
    """What the header of a model file says."""

    vocab: int
    audio_layers: int
    text_layers: int
    state: int
    """Width of a layer, in values."""
    size: int
    """Length of the file in bytes."""
    multilingual: bool


def check(path: Path) -> ModelFile:
    """Check the whole structure and return what the header says. Blocking, 20 to 400 ms. Raises BadModelFile."""
    try:
        with path.open("rb") as file:
            return _walk(file, path.stat().st_size)
    except FileNotFoundError:
        raise BadModelFile(f"There is no model file at {path}.") from None
    except OSError as error:
        raise BadModelFile(f"The model file {path} cannot be read: {error.strerror}.") from error
    except BadModelFile as error:
        raise BadModelFile(f"{path} is not a usable whisper model: {error}.") from None


def _walk(file: BinaryIO, size: int) -> ModelFile:
    if _read(file, 4) != MAGIC:
        raise BadModelFile("it is no ggml file")
    (
        vocab,
        audio_ctx,
        audio_state,
        audio_heads,
        audio_layers,
        text_ctx,
        text_state,
        _,
        text_layers,
        mels,
        _,
    ) = _ints(file, 11)
    plausible = (
        50_000 < vocab < 60_000
        and (audio_ctx, text_ctx) == (1500, 448)
        and audio_state == text_state
        and mels in (80, 128)
        and 0 < audio_layers <= 64
        and 0 < text_layers <= 64
        and audio_heads > 0
        and audio_state % audio_heads == 0
    )
    if not plausible:
        raise BadModelFile("it is a ggml file of another kind")
    if _ints(file, 2) != (mels, MEL_FFT):
        raise BadModelFile("its mel filters have the wrong shape")
    _skip(file, 4 * mels * MEL_FFT, size)
    _skip_vocabulary(file, size)
    _skip_tensors(file, size, expected=11 + 15 * audio_layers + 24 * text_layers)
    return ModelFile(
        vocab=vocab,
        audio_layers=audio_layers,
        text_layers=text_layers,
        state=text_state,
        size=size,
        multilingual=vocab >= MULTILINGUAL_VOCAB,
    )


def _skip_vocabulary(file: BinaryIO, size: int) -> None:
    (count,) = _ints(file, 1)
    if not 0 < count < 60_000:
        raise BadModelFile("its vocabulary is damaged")
    for _ in range(count):
        (length,) = _ints(file, 1)
        if not 0 <= length <= 1024:
            raise BadModelFile("its vocabulary is damaged")
        _skip(file, length, size)


def _skip_tensors(file: BinaryIO, size: int, expected: int) -> None:
    count = 0
    while file.tell() < size:
        dimensions, name_length, kind = _ints(file, 3)
        if not (1 <= dimensions <= 4 and 0 < name_length < 128 and kind in BLOCKS):
            raise BadModelFile(f"tensor {count} is damaged")
        values = 1
        for extent in _ints(file, dimensions):
            values *= extent
        block_bytes, block_values = BLOCKS[kind]
        _skip(file, name_length + values // block_values * block_bytes, size)
        count += 1
    if count != expected:
        raise BadModelFile(f"it has {count} of {expected} tensors")


def _skip(file: BinaryIO, count: int, size: int) -> None:
    if count < 0 or file.tell() + count > size:
        raise BadModelFile("it is cut off")
    file.seek(count, 1)


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise BadModelFile("it is cut off")
    return data


def _ints(file: BinaryIO, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}i", _read(file, 4 * count))
