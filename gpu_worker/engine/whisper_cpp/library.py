"""whisper.cpp as an EngineLibrary (gpu_worker/engine/library.py)."""

from pathlib import Path
from typing import TYPE_CHECKING

from gpu_worker.engine.library import Engine, EngineLibrary
from gpu_worker.engine.protocol import Load
from gpu_worker.engine.whisper_cpp import memory, model_file


def required_vram(model: Path, beam_size: int) -> int:
    """See EngineLibrary.required_vram."""
    return memory.estimate(model_file.check(model), beam_size)


def out_of_memory(lines: list[str]) -> str | None:
    """See EngineLibrary.out_of_memory."""
    return memory.out_of_memory(lines)


def open_engine(load: Load) -> Engine:
    """See EngineLibrary.open_engine."""
    # Imported here, so that the worker's own process never loads the native library.
    from gpu_worker.engine.whisper_cpp.engine import WhisperEngine

    return WhisperEngine(load)


if TYPE_CHECKING:
    import gpu_worker.engine.whisper_cpp.library as this_module

    _is_a_library: EngineLibrary = this_module
