"""The worker's settings: environment variables with the names of the fields in capitals."""

import os
import re
import shlex
import socket
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import psutil

from broker.settings import BrokerSettings
from gpu_worker.audio.decoding import COMMAND, Limits
from gpu_worker.audio.stretches import PlanSettings
from gpu_worker.engine.library import DEFAULT_LIBRARY, UnknownLibrary, find_library
from gpu_worker.model_names import file_of, name_of
from schemas.limits import ID_PATTERN
from schemas.options import MAX_BEAM_SIZE

MODELS = Path("/models")
"""Where models are looked for by name."""
Positive = Annotated[float, msgspec.Meta(gt=0)]


class WorkerSettings(BrokerSettings, kw_only=True, frozen=True):
    """See docs/USAGE.md for each setting. Names that end in `_secs` are seconds."""

    worker_id: Annotated[str, msgspec.Meta(pattern=f"^$(?!\\n)|{ID_PATTERN}")] = ""
    """One token of a subject. Default: the host name and the process id."""
    whisper_model: str = "large-v3"
    """A name, or a file: see gpu_worker/model_names.py."""
    whisper_model_path: str = ""
    """Default: the file of `whisper_model`, which is /models/ggml-<whisper_model>.bin for a name."""
    whisper_use_gpu: bool = True
    whisper_flash_attn: bool = True
    whisper_threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Threads of the engine; 0 means the physical cores that this process may use."""
    engine: str = DEFAULT_LIBRARY
    """Name of the library that transcribes: a package under gpu_worker/engine/."""
    engine_command: str = ""
    """Command line of the engine process; default: this Python with gpu_worker.engine.child and `engine`."""
    decoder_command: str = ""
    """Command line of the decoder process; default: this Python with gpu_worker.audio.decoder."""
    idle_timeout_secs: Annotated[float, msgspec.Meta(ge=0)] = 300.0
    """The model is unloaded after this time without a job; 0 means never."""
    gpu_poll_interval_secs: Positive = 30.0
    """How often the GPU is asked for free VRAM while there is too little."""
    engine_load_timeout_secs: Positive = 600.0
    engine_stall_secs: Positive = 1800.0
    """An engine that sends nothing for this time is killed. It sends something at least once per 30 s window of audio."""
    abort_grace_secs: Positive = 1.5
    """An engine that does not give up a cancelled job within this time is killed."""
    job_max_attempts: Annotated[int, msgspec.Meta(ge=1)] = 3
    """Number of attempts without one more committed stretch after which a job fails."""
    spool_dir: str = ""
    """Folder for the audio of jobs in hand. Default: the system's folder for temporary files."""
    max_audio_secs: Positive = 24 * 3600.0
    decode_timeout_secs: Positive = 1800.0
    stretch_secs: Annotated[float, msgspec.Meta(ge=30)] = 150.0

    def __post_init__(self) -> None:
        """Raises ValueError where there is no such engine."""
        try:
            find_library(self.engine)
        except UnknownLibrary as error:
            raise ValueError(f"ENGINE: {error}") from error

    def name(self) -> str:
        """The worker's id."""
        return self.worker_id or f"{host_name()}-{os.getpid()}"

    def model_path(self) -> Path:
        """The model file."""
        if self.whisper_model_path:
            return Path(self.whisper_model_path)
        return file_of(self.whisper_model, MODELS)

    def model_name(self) -> str:
        """The name by which the model is shown: that of its file, because two settings may contradict each other."""
        return name_of(self.model_path())

    def command(self) -> list[str]:
        """The command line that starts an engine process."""
        return shlex.split(self.engine_command) or [
            sys.executable,
            "-m",
            "gpu_worker.engine.child",
            self.engine,
        ]

    def decoder(self) -> list[str]:
        """The command line that starts a decoder."""
        return shlex.split(self.decoder_command) or COMMAND

    def decode_limits(self) -> Limits:
        """What decoding one file may take."""
        return Limits(timeout_secs=self.decode_timeout_secs, max_secs=self.max_audio_secs)

    def threads(self) -> int:
        """Threads of the engine."""
        if self.whisper_threads:
            return self.whisper_threads
        return max(1, min(psutil.cpu_count(logical=False) or 1, usable_cpus()))

    def widest_beam(self) -> int:
        """The widest beam that a job may ask for."""
        return MAX_BEAM_SIZE

    def spool(self) -> Path:
        """The folder in which the spool is created."""
        return Path(self.spool_dir or tempfile.gettempdir())

    def plan(self) -> PlanSettings:
        """The settings for planning stretches."""
        return PlanSettings(target_secs=self.stretch_secs)


def usable_cpus() -> int:
    """Return how many CPUs this process may use. Only Linux can say that; elsewhere it is the number of CPUs."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def host_name() -> str:
    """Return the name of this host, in the letters that a token of a subject may have."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:50]
