"""How much VRAM a whisper.cpp model needs, and how whisper.cpp says that there is too little. Pure.

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
"""What ggml-cuda, cuBLAS and whisper.cpp write to stderr before they abort."""


def estimate(model: ModelFile, beam_size: int) -> int:
    """Return a lower bound of the bytes that the model takes: weights and caches at this beam, without CUDA's context.

    A lower bound, because a load that is refused for a wrong estimate is worse than one that fails.
    """
    per_position = model.text_layers * model.state * KEYS_AND_VALUES * BYTES_PER_VALUE
    return model.size + per_position * (TEXT_CONTEXT * (beam_size + 2) + AUDIO_CONTEXT)


def out_of_memory(words: list[str]) -> str | None:
    """Return the line of an engine's stderr that tells of a lack of memory, or None."""
    return next((line for line in words if OUT_OF_MEMORY.search(line)), None)
