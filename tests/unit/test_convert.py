"""The converter of models: a small model of CTranslate2's becomes a file that the engine would load, with the same numbers in it."""

import json
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from numpy.typing import NDArray

from gpu_worker.engine.whisper_cpp.model_file import check
from tests.speech.convert import convert, mel_filters
from tests.speech.ct2_file import BFLOAT16, TYPES

VOCAB, STATE, MELS, LAYERS = 51_864, 4, 80, 1
TOKENS = ["!", "Ġthe", "Ã©", "<|endoftext|>", "<|startoftranscript|>"]
Variables = dict[str, NDArray[Any]]


def linear(name: str, rows: int, columns: int) -> Variables:
    """Numbers that tell one row and one matrix from another."""
    begin = len(name)
    matrix = np.arange(begin, begin + rows * columns).reshape(rows, columns)
    return {f"{name}/weight": matrix.astype(np.float16), f"{name}/bias": np.arange(rows, dtype=np.float16)}


def norm(name: str) -> Variables:
    return {f"{name}/layer_norm/{part}": np.ones(STATE, np.float16) for part in ("gamma", "beta")}


def layer(part: str) -> Variables:
    name = f"{part}/layer_0"
    found = norm(f"{name}/self_attention") | norm(f"{name}/ffn")
    found |= linear(f"{name}/self_attention/linear_0", 3 * STATE, STATE)
    found |= linear(f"{name}/self_attention/linear_1", STATE, STATE)
    found |= linear(f"{name}/ffn/linear_0", 4 * STATE, STATE) | linear(
        f"{name}/ffn/linear_1", STATE, 4 * STATE
    )
    if part == "decoder":
        found |= norm(f"{name}/attention") | linear(f"{name}/attention/linear_0", STATE, STATE)
        found |= linear(f"{name}/attention/linear_1", 2 * STATE, STATE)
        found |= linear(f"{name}/attention/linear_2", STATE, STATE)
    return found


def small_model() -> Variables:
    found: Variables = {"encoder/num_heads": np.array(2, np.int8)}
    for number, width in ((1, MELS), (2, STATE)):
        found[f"encoder/conv{number}/weight"] = np.ones((STATE, width, 3), np.float16)
        found[f"encoder/conv{number}/bias"] = np.arange(STATE, dtype=np.float16)
    found["encoder/position_encodings/encodings"] = np.ones((1500, STATE), np.float32)
    found["decoder/position_encodings/encodings"] = np.ones((448, STATE), np.float32)
    found["decoder/embeddings/weight"] = np.ones((VOCAB, STATE), np.float16)
    for part in ("encoder", "decoder"):
        found |= norm(part) | layer(part)
    return found


def string(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def write_ct2(path: Path, variables: Variables, version: int = 6) -> None:
    """As CTranslate2 writes it. What is of unsigned 16 bits is bfloat16."""
    with path.open("wb") as file:
        file.write(struct.pack("<I", version) + string("WhisperSpec") + struct.pack("<II", 3, len(variables)))
        for name, values in variables.items():
            kind = TYPES.index(values.dtype.type)
            file.write(string(name) + struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape))
            file.write(struct.pack("<BI", kind, values.nbytes) + values.tobytes())


def converted(folder: Path, variables: Variables, vocabulary: str | None = None) -> Path:
    write_ct2(folder / "model.bin", variables)
    (folder / "vocabulary").write_text(vocabulary or json.dumps(TOKENS), "utf-8")
    convert(folder / "model.bin", folder / "vocabulary", folder / "out.bin")
    return folder / "out.bin"


def ints(file: BinaryIO, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}i", file.read(4 * count))


def read(path: Path) -> tuple[list[bytes], Variables]:
    """The tokens and the tensors of a file of whisper.cpp."""
    tensors: Variables = {}
    with path.open("rb") as file:
        file.seek(4 * 14 + 4 * 201 * MELS)
        tokens = [file.read(ints(file, 1)[0]) for _ in range(ints(file, 1)[0])]
        while head := file.read(12):
            rank, length, kind = struct.unpack("<3i", head)
            shape, name = ints(file, rank)[::-1], file.read(length).decode()
            dtype = np.dtype(np.float16 if kind else np.float32)
            count = int(np.prod(shape)) * dtype.itemsize
            tensors[name] = np.frombuffer(file.read(count), dtype).reshape(shape)
    return tokens, tensors


def test_what_comes_out_is_a_whole_model_of_the_same_size(tmp_path: Path) -> None:
    found = check(converted(tmp_path, small_model()))
    assert (found.vocab, found.state, found.audio_layers, found.text_layers) == (VOCAB, STATE, LAYERS, LAYERS)
    assert not found.multilingual


def test_stacked_projections_are_taken_apart_and_keys_have_no_bias(tmp_path: Path) -> None:
    model = small_model()
    _, tensors = read(converted(tmp_path, model))
    stacked = model["decoder/layer_0/self_attention/linear_0/weight"]
    for number, name in enumerate(("query", "key", "value")):
        rows = stacked[number * STATE : (number + 1) * STATE]
        assert (tensors[f"decoder.blocks.0.attn.{name}.weight"] == rows).all()
    crossed = model["decoder/layer_0/attention/linear_1/weight"]
    assert (tensors["decoder.blocks.0.cross_attn.value.weight"] == crossed[STATE:]).all()
    assert list(tensors["decoder.blocks.0.cross_attn.value.bias"]) == list(range(STATE, 2 * STATE))
    assert [name for name in tensors if name.endswith("key.bias")] == []


def test_matrices_have_16_bits_and_vectors_and_positions_32(tmp_path: Path) -> None:
    _, tensors = read(converted(tmp_path, small_model()))
    assert tensors["encoder.conv1.weight"].dtype == np.float16
    assert tensors["encoder.positional_embedding"].dtype == np.float32
    assert tensors["encoder.conv1.bias"].shape == (STATE, 1)
    assert tensors["encoder.conv1.bias"].dtype == tensors["decoder.ln.bias"].dtype == np.float32


@pytest.mark.parametrize("vocabulary", [json.dumps(TOKENS), "\n".join(TOKENS) + "\n"])
def test_tokens_are_bytes_and_the_special_ones_are_left_out(tmp_path: Path, vocabulary: str) -> None:
    tokens, _ = read(converted(tmp_path, small_model(), vocabulary))
    assert tokens == [b"!", b" the", "é".encode()]


def test_rows_of_8_bits_are_divided_by_their_scale(tmp_path: Path) -> None:
    name = "encoder/layer_0/ffn/linear_1/weight"
    model = small_model() | {name: np.full((STATE, 4 * STATE), 64, np.int8)}
    model[f"{name}_scale"] = np.array([1, 2, 4, 8], np.float32)
    _, tensors = read(converted(tmp_path, model))
    assert list(tensors["encoder.blocks.0.mlp.2.weight"][:, 0]) == [64, 32, 16, 8]


def test_bfloat16_keeps_its_values(tmp_path: Path) -> None:
    assert TYPES[BFLOAT16] is np.uint16
    upper_halves = (np.array([1, -2, 0.5, 96], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    _, tensors = read(converted(tmp_path, small_model() | {"decoder/layer_norm/gamma": upper_halves}))
    assert list(tensors["decoder.ln.weight"]) == [1, -2, 0.5, 96]


def test_the_mel_filters_are_those_of_a_model_that_whisper_cpp_loads(demo_model: Path) -> None:
    with demo_model.open("rb") as file:
        file.seek(4 * 12)
        mels, bins = ints(file, 2)
        theirs = np.frombuffer(file.read(4 * mels * bins), np.float32).reshape(mels, bins)
    assert np.abs(mel_filters(mels) - theirs).max() < 1e-7


def test_another_version_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    write_ct2(tmp_path / "model.bin", {}, version=5)
    (tmp_path / "vocabulary").write_text(json.dumps(TOKENS))
    with pytest.raises(ValueError, match="no WhisperSpec in version 6"):
        convert(tmp_path / "model.bin", tmp_path / "vocabulary", tmp_path / "out.bin")
    assert {path.name for path in tmp_path.iterdir()} == {"model.bin", "vocabulary"}
