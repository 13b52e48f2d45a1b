"""Read the parts that are taken over from a whisper.cpp model file, and write the trained model as one.

The layout is whisper.cpp's: magic, 11 hyper-parameters, mel filters, vocabulary, then tensors with their
dimensions reversed. Matrices are written as q8_0 (blocks of 32: one float16 scale, 32 int8), convolutions
as float16, vectors and positions as float32, which is what the loader expects of a q8_0 file.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAGIC = 0x67676D6C
F32, F16, Q8_0 = 0, 1, 8
FTYPE_Q8_0 = 2 * 1000 + 7  # quantisation version 2, "mostly q8_0"
BLOCK = 32


@dataclass
class Donor:
    """What a new model takes over unchanged: `head` is the bytes of filters and vocabulary."""

    mel_filters: np.ndarray  # float32 [n_mels, 201]
    tokens: list[bytes]
    head: bytes


def read_donor(path: Path) -> Donor:
    data = path.read_bytes()
    magic, *hparams = struct.unpack_from("<I11i", data)
    if magic != MAGIC:
        raise ValueError(f"{path} is not a ggml file")
    start = offset = 48
    n_mels, n_fft = struct.unpack_from("<2i", data, offset)
    offset += 8
    filters = np.frombuffer(data, np.float32, n_mels * n_fft, offset).reshape(n_mels, n_fft).copy()
    offset += 4 * n_mels * n_fft
    (count,) = struct.unpack_from("<i", data, offset)
    offset += 4
    tokens = []
    for _ in range(count):
        (length,) = struct.unpack_from("<i", data, offset)
        tokens.append(data[offset + 4 : offset + 4 + length])
        offset += 4 + length
    return Donor(filters, tokens, data[start:offset])


def tokenize(word: str, tokens: list[bytes]) -> list[int]:
    """Byte-pair encode: merge the pair with the lowest token id until none is left."""
    rank = {t: i for i, t in enumerate(tokens)}
    parts = [bytes([b]) for b in word.encode()]
    while True:
        pairs = [
            (rank[a + b], i) for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False)) if a + b in rank
        ]
        if not pairs:
            return [rank[p] for p in parts]
        _, i = min(pairs)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def _q8_0(matrix: np.ndarray) -> bytes:
    blocks = matrix.astype(np.float32).reshape(-1, BLOCK)
    scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype(np.float16)
    safe = np.where(scale == 0, 1, scale.astype(np.float32))
    out = np.empty(len(blocks), np.dtype([("d", "<f2"), ("q", "i1", BLOCK)]))
    out["d"] = scale[:, 0]
    out["q"] = np.clip(np.rint(blocks / safe), -127, 127)
    return out.tobytes()


def write(path: Path, hparams: list[int], head: bytes, tensors: dict[str, np.ndarray]) -> None:
    """Write a model. `hparams` are the first ten (n_vocab .. n_mels); tensors are float32."""
    with path.open("wb") as f:
        f.write(struct.pack("<I11i", MAGIC, *hparams, FTYPE_Q8_0))
        f.write(head)
        for name, tensor in tensors.items():
            kind = F32
            if name.endswith(".weight") and tensor.ndim == 3:
                kind = F16
            elif name.endswith(".weight") and tensor.ndim == 2:
                kind = Q8_0
            raw = _q8_0(tensor) if kind == Q8_0 else tensor.astype([np.float32, np.float16][kind]).tobytes()
            f.write(struct.pack("<3i", tensor.ndim, len(name), kind))
            f.write(struct.pack(f"<{tensor.ndim}i", *reversed(tensor.shape)))
            f.write(name.encode())
            f.write(raw)
