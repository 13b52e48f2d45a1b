"""Turn a Whisper model of CTranslate2 into a file of whisper.cpp: `python -m tests.speech.convert MODEL.bin VOCABULARY OUT.bin`.

MODEL.bin is CTranslate2's, in version 6; VOCABULARY is the vocabulary.json or vocabulary.txt beside it. The result holds matrices of 16 bits
and vectors of 32 bits, as whisper.cpp's own converters write them. Nothing of the model is executed.
"""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tests.speech.ct2_file import CT2File, Floats

GGML_MAGIC, KIND_F32, KIND_F16 = 0x67676D6C, 0, 1
SAMPLE_RATE, FFT = 16_000, 400
EMBEDDINGS = "decoder/embeddings/weight"
TOP = {
    "encoder.positional_embedding": "encoder/position_encodings/encodings",
    "encoder.conv1.weight": "encoder/conv1/weight",
    "encoder.conv1.bias": "encoder/conv1/bias",
    "encoder.conv2.weight": "encoder/conv2/weight",
    "encoder.conv2.bias": "encoder/conv2/bias",
    "encoder.ln_post.weight": "encoder/layer_norm/gamma",
    "encoder.ln_post.bias": "encoder/layer_norm/beta",
    "decoder.positional_embedding": "decoder/position_encodings/encodings",
    "decoder.token_embedding.weight": EMBEDDINGS,
    "decoder.ln.weight": "decoder/layer_norm/gamma",
    "decoder.ln.bias": "decoder/layer_norm/beta",
}
"""What is in no layer: whisper.cpp's name to CTranslate2's."""
POSITIONS = {name for name in TOP if name.endswith("positional_embedding")}
"""Matrices that whisper.cpp wants in 32 bits all the same."""
COLUMNS = {"encoder.conv1.bias", "encoder.conv2.bias"}
"""Vectors that whisper.cpp wants as a matrix of one column."""


def tensors(source: CT2File) -> Iterator[tuple[str, Floats]]:
    """Yield every tensor by whisper.cpp's name."""
    for ours, theirs in TOP.items():
        yield ours, source.floats(theirs)
    for part in ("encoder", "decoder"):
        for layer in range(source.layers(part)):
            ours, theirs = f"{part}.blocks.{layer}", f"{part}/layer_{layer}"
            yield from _attention(
                source, f"{ours}.attn", f"{theirs}/self_attention", ("query", "key", "value")
            )
            if part == "decoder":
                yield from _attention(
                    source, f"{ours}.cross_attn", f"{theirs}/attention", ("query",), ("key", "value")
                )
            yield from _norm(source, f"{ours}.mlp_ln", f"{theirs}/ffn")
            yield from _linear(source, f"{ours}.mlp", f"{theirs}/ffn/linear_0", ("0",))
            yield from _linear(source, f"{ours}.mlp", f"{theirs}/ffn/linear_1", ("2",))


def _attention(
    source: CT2File, ours: str, theirs: str, *stacks: tuple[str, ...]
) -> Iterator[tuple[str, Floats]]:
    """The stacks are the projections that CTranslate2 keeps in one matrix each, because they have the same input."""
    yield from _norm(source, f"{ours}_ln", theirs)
    for number, names in enumerate((*stacks, ("out",))):
        yield from _linear(source, ours, f"{theirs}/linear_{number}", names)


def _norm(source: CT2File, ours: str, theirs: str) -> Iterator[tuple[str, Floats]]:
    yield f"{ours}.weight", source.floats(f"{theirs}/layer_norm/gamma")
    yield f"{ours}.bias", source.floats(f"{theirs}/layer_norm/beta")


def _linear(source: CT2File, ours: str, theirs: str, names: tuple[str, ...]) -> Iterator[tuple[str, Floats]]:
    """Whisper's keys have no bias; CTranslate2 stores zeros for it."""
    weights = np.split(source.floats(f"{theirs}/weight"), len(names))
    biases = np.split(source.floats(f"{theirs}/bias"), len(names))
    for name, weight, bias in zip(names, weights, biases, strict=True):
        yield f"{ours}.{name}.weight", weight
        if name != "key":
            yield f"{ours}.{name}.bias", bias


def mel_filters(mels: int) -> Floats:
    """Return Slaney's filters, each of area one, over the bins of a Fourier transform of 400 points at 16 kHz."""
    linear_hz, hz_per_mel, mels_per_log = 1000.0, 200.0 / 3, 27 / np.log(6.4)
    linear_mels = linear_hz / hz_per_mel
    top = linear_mels + np.log(SAMPLE_RATE / 2 / linear_hz) * mels_per_log
    mel = np.linspace(0.0, top, mels + 2)
    edges = np.where(
        mel < linear_mels, mel * hz_per_mel, linear_hz * np.exp((mel - linear_mels) / mels_per_log)
    )
    bins = np.arange(FFT // 2 + 1) * (SAMPLE_RATE / FFT)
    low, middle, high = (edge[:, None] for edge in (edges[:-2], edges[1:-1], edges[2:]))
    shape = np.maximum(0.0, np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)))
    filters: Floats = (shape * 2.0 / (high - low)).astype(np.float32)
    return filters


def vocabulary(text: str) -> list[bytes]:
    """Return the tokens of text as bytes. The file is a JSON list, or a token a line.

    GPT-2's alphabet writes each byte as one character: those that print as themselves, the others as code points from 256 on.
    """
    tokens = json.loads(text) if text.startswith("[") else text.rstrip("\n").split("\n")
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printing]
    byte_of = {chr(byte): byte for byte in printing} | {chr(256 + n): byte for n, byte in enumerate(hidden)}
    return [bytes(byte_of[char] for char in token) for token in tokens[: tokens.index("<|endoftext|>")]]


def write(source: CT2File, tokens: list[bytes], out: BinaryIO) -> None:
    """Write a file of whisper.cpp: numbers, mel filters, vocabulary, tensors."""
    vocab, state = source.shape(EMBEDDINGS)
    audio_ctx, text_ctx = (
        source.shape(f"{part}/position_encodings/encodings")[0] for part in ("encoder", "decoder")
    )
    mels, heads = source.shape("encoder/conv1/weight")[1], source.number("encoder/num_heads")
    audio = (audio_ctx, state, heads, source.layers("encoder"))
    text = (text_ctx, state, heads, source.layers("decoder"))
    out.write(struct.pack("<12i", GGML_MAGIC, vocab, *audio, *text, mels, KIND_F16))
    out.write(struct.pack("<2i", mels, FFT // 2 + 1) + mel_filters(mels).tobytes())
    out.write(struct.pack("<i", len(tokens)) + b"".join(struct.pack("<i", len(t)) + t for t in tokens))
    for name, values in tensors(source):
        out.write(_tensor(name, values[:, None] if name in COLUMNS else values))


def _tensor(name: str, values: Floats) -> bytes:
    full = values.ndim == 1 or name in POSITIONS | COLUMNS
    kind, content = (KIND_F32, values) if full else (KIND_F16, values.astype(np.float16))
    head = struct.pack(f"<{3 + values.ndim}i", values.ndim, len(name), kind, *reversed(values.shape))
    return head + name.encode() + content.tobytes()


def convert(model: Path, tokens: Path, out: Path) -> None:
    """Write `out`, which is there only when it is whole. Raises ValueError where the model is of another kind."""
    source, unfinished = CT2File(model), out.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        write(source, vocabulary(tokens.read_text("utf-8")), file)
    unfinished.replace(out)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    convert(*map(Path, sys.argv[1:]))
