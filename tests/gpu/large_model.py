"""A model file of large-v2's shape with random weights: it takes the VRAM and the encoder's time of a real one.

It is written here because a test downloads nothing. The demo model gives vocabulary, filters and the tensors' names.
Its decoder is steered: the first token of a window is 0.00 s, the next is the end, as if nobody had said anything.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.whisper_cpp.model_file import BLOCKS, MEL_FFT

STATE, HEADS, LAYERS = 1280, 20, 32
F32, F16 = 0, 1
END, FIRST_TIMESTAMP = 50257, 50364
"""Token numbers of multilingual models up to large-v2."""

Shape = tuple[int, ...]


def write(demo: Path, target: Path, layers: int = LAYERS) -> None:
    """Write about 3.1 GB, with fewer `layers` less."""
    data = demo.read_bytes()
    magic, vocab, audio_ctx, small, _, _, text_ctx, _, _, _, mels, _ = struct.unpack_from("<12i", data)
    tensors = end_of_head(data)
    width = {small: STATE, 4 * small: 4 * STATE}
    with target.open("wb") as file:
        numbers = (vocab, audio_ctx, STATE, HEADS, layers, text_ctx, STATE, HEADS, layers, mels, F16)
        file.write(struct.pack("<12i", magic, *numbers))
        file.write(data[48:tensors])
        random = np.random.default_rng(20)
        pool = (random.standard_normal(2**24, np.float32) * 0.02).astype(np.float16)
        for name, small_shape, small_kind in all_tensors(data, tensors):
            shape = tuple(width.get(extent, extent) for extent in small_shape)
            kind = F32 if small_kind == F32 else F16
            for copy in range(layers) if ".blocks.0." in name else (0,):
                values = weights(name, shape, pool, int(random.integers(2**20)))
                label = name.replace(".blocks.0.", f".blocks.{copy}.").encode()
                file.write(struct.pack("<3i", len(shape), len(label), kind))
                file.write(struct.pack(f"<{len(shape)}i", *shape))
                file.write(label)
                file.write(values.astype(np.float32 if kind == F32 else np.float16).tobytes())


def end_of_head(data: bytes) -> int:
    """Where the first tensor begins."""
    (mels,) = struct.unpack_from("<i", data, 48)
    offset = 56 + 4 * mels * MEL_FFT
    (tokens,) = struct.unpack_from("<i", data, offset)
    offset += 4
    for _ in range(tokens):
        (length,) = struct.unpack_from("<i", data, offset)
        offset += 4 + length
    return int(offset)


def all_tensors(data: bytes, offset: int) -> Iterator[tuple[str, Shape, int]]:
    """Name, shape (the fastest extent first) and kind of each that is needed; of the layers only the first."""
    while offset < len(data):
        dimensions, length, kind = struct.unpack_from("<3i", data, offset)
        shape = struct.unpack_from(f"<{dimensions}i", data, offset + 12)
        offset += 12 + 4 * dimensions
        name = data[offset : offset + length].decode()
        block_bytes, block_values = BLOCKS[kind]
        offset += length + int(np.prod(shape)) // block_values * block_bytes
        if ".blocks." not in name or ".blocks.0." in name:
            yield name, shape, kind


def weights(name: str, shape: Shape, pool: NDArray[np.float16], start: int) -> NDArray[np.float16]:
    count = int(np.prod(shape))
    values = np.resize(pool[start:], count)
    if name == "decoder.ln.bias":
        return np.ones_like(values)
    if name.endswith(("ln.weight", "ln_post.weight")) and name != "decoder.ln.weight":
        return values + np.float16(1)
    if name == "decoder.token_embedding.weight":
        rows = values.reshape(shape[1], shape[0])
        rows[[END, FIRST_TIMESTAMP]] = 0.02
    return values
