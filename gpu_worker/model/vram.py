"""How much VRAM a model needs, and whether an engine died of the lack of it. Pure.

The figures of whisper.cpp 1.8.5 for large-v3, from its log: weights 3094 MB, decoder cache 84 MB at first and 839 MB
at a beam of 8, cross attention 252 MB.
"""

import re

from gpu_worker.engine.whisper_cpp.model_file import ModelFile

TEXT_CONTEXT, AUDIO_CONTEXT = 512, 1536
"""Positions in whisper.cpp's caches: 448 and 1500, padded to multiples of 256."""
BYTES_PER_VALUE = 2
KEYS_AND_VALUES = 2

OUT_OF_MEMORY = re.compile(
    r"out of memory|cudaMalloc failed|cudaErrorMemoryAllocation|ALLOC_FAILED|resource allocation failed"
    r"|failed to allocate (?:\w+ )*(?:buffer|memory)|no memory for the decoder",
    re.IGNORECASE,
)
"""What ggml-cuda, cuBLAS and whisper.cpp say before they give up."""


def estimate(model: ModelFile, beam_size: int) -> int:
    """Bytes that this model takes at the least: weights and caches at this beam, without CUDA's own context.

    A lower bound, so that no load is thought hopeless that is not.
    """
    per_position = model.text_layers * model.state * KEYS_AND_VALUES * BYTES_PER_VALUE
    return model.size + per_position * (TEXT_CONTEXT * (beam_size + 2) + AUDIO_CONTEXT)


def out_of_memory(words: list[str]) -> str | None:
    """The line, among an engine's last words, that tells of a lack of memory."""
    return next((line for line in words if OUT_OF_MEMORY.search(line)), None)


def lack(free: int | None, needed: int) -> str | None:
    """Why a load is hopeless, in words; None where it has a chance. `free` is None where nobody tells."""
    if free is None or free >= needed:
        return None
    return f"The model needs {needed / 2**20:,.0f} MiB of VRAM and {free / 2**20:,.0f} MiB are free."
