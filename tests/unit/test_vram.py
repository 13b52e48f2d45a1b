"""How much a model needs, and which last words mean that there was not enough."""

import pytest

from gpu_worker.engine.whisper_cpp import memory
from gpu_worker.engine.whisper_cpp.model_file import ModelFile
from gpu_worker.model import vram

LARGE = ModelFile(
    vocab=51866, audio_layers=32, text_layers=32, state=1280, size=3_095_033_483, multilingual=True
)
MIB = 2**20


def test_the_estimate_for_large_is_what_whisper_says_it_takes() -> None:
    """whisper.cpp logs for large-v3: weights 3094 MB (of 10^6), caches at a beam of 8 839 MB, cross attention 252 MB."""
    needed = memory.estimate(LARGE, beam_size=8)
    assert needed == pytest.approx((3094 + 839 + 252) * 1e6, rel=0.01)
    assert memory.estimate(LARGE, beam_size=5) < needed


@pytest.mark.parametrize(
    ("free", "needed", "expected"),
    [
        (None, 10**12, None),
        (3000 * MIB, 3000 * MIB, None),
        (2999 * MIB, 3000 * MIB, "The model needs 3,000 MiB of VRAM and 2,999 MiB are free."),
    ],
)
def test_what_is_lacking(free: int | None, needed: int, expected: str | None) -> None:
    assert vram.lack(free, needed) == expected


@pytest.mark.parametrize(
    "line",
    [
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 3094.36 MiB on device 0: cudaMalloc failed: out of memory",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED",
        "CUDA error: the resource allocation failed",  # cuBLAS 12 and 13 say the same so
        "ggml_gallocr_reserve_n: failed to allocate CUDA0 buffer of size 207880192",
        "whisper_kv_cache_init: failed to allocate memory for the kv cache",
        "the warm-up failed: there is no memory for the decoder's cache",
    ],
)
def test_last_words_of_a_lack_of_memory(line: str) -> None:
    assert memory.out_of_memory(["loading", line, "bye"]) == line


@pytest.mark.parametrize(
    "line",
    [
        "CUDA error: no kernel image is available for execution on the device",
        "CUDA error: an illegal memory access was encountered",
        "whisper_model_load: failed to open 'x'",
        "whisper_init_state: kv self size  =   83.89 MB",
    ],
)
def test_last_words_of_something_else(line: str) -> None:
    assert memory.out_of_memory([line]) is None
