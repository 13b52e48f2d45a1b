"""What the worker and the engine process must know of a speech recognition library: one small interface.

A library is a package `gpu_worker/engine/<name>/` whose module `library.py` has the functions of EngineLibrary. The setting
ENGINE names it. Pipe, process, loading and VRAM policy use nothing else, so that a second library is one more package.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.protocol import AnyReply, LastReply, Load, Transcribe

DEFAULT_LIBRARY = "whisper_cpp"

Samples = NDArray[np.float32]
"""Audio as gpu_worker/pcm.py describes it, contiguous and finite."""


class UnknownLibrary(Exception):
    """There is no package for a library of this name."""


class BadModelFile(Exception):
    """The model file is missing, damaged or of another kind; the sentence says which."""


class CannotOpen(Exception):
    """The library refuses the model; the sentence says why. The engine process must end after this."""


class Engine(Protocol):
    """One loaded model, inside the engine process. It is used by one thread."""

    @property
    def backend(self) -> str:
        """Name of the device that computes, as the status shows it; `cpu` where no GPU is used."""

    def prepare(self) -> None:
        """Do what the next call needs and can be done before it is known. Called while nobody waits."""

    def transcribe(
        self,
        job: Transcribe,
        audio: Samples,
        reply: Callable[[AnyReply], None],
        is_aborted: Callable[[], bool],
    ) -> LastReply:
        """Transcribe `audio`, the joined pieces that `job` names, and return how it ended.

        Each SegmentFound and ProgressMade goes to `reply` as soon as it is known. `is_aborted` is polled at least once per
        window, and Aborted is returned where it is true.
        """


class EngineLibrary(Protocol):
    """One library. Only `open_engine` may import native code: the other functions run in the worker's process."""

    def required_vram(self, model: Path, beam_size: int) -> int:
        """Check the whole model file; return the bytes of VRAM that it needs at the least, for beams up to `beam_size`.

        Blocking, up to half a second. Raises BadModelFile.
        """

    def out_of_memory(self, lines: list[str]) -> str | None:
        """Return the line of an engine's stderr that tells of a lack of VRAM, or None."""

    def open_engine(self, load: Load) -> Engine:
        """Load the model and allocate all memory that a job can need. Raises CannotOpen."""


def find_library(name: str) -> EngineLibrary:
    """Return the library of this name. Raises UnknownLibrary."""
    module = f"{__package__}.{name}.library"
    try:
        # A module with these functions is an EngineLibrary; mypy checks each of them where it is written.
        return cast(EngineLibrary, import_module(module))
    except ModuleNotFoundError as error:
        if error.name is not None and module.startswith(error.name):
            raise UnknownLibrary(f"there is no engine {name!r}") from None
        raise
