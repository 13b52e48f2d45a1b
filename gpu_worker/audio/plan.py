"""The plan of a job: where its decoded audio is, and in which pieces the engine gets it."""

from pathlib import Path

import msgspec

from gpu_worker.audio.stretches import Stretch
from gpu_worker.pcm import SAMPLE_BYTES, SAMPLE_RATE


class Plan(msgspec.Struct, kw_only=True, frozen=True):
    """A job that is ready for the engine. The same audio and options always give the same plan."""

    pcm: Path
    """A file of samples (gpu_worker/pcm.py) in the job's spool folder."""
    samples: int
    """Length of the whole audio in samples."""
    stretches: list[Stretch]
    fetch_secs: float
    decode_secs: float
    plan_secs: float
    """Seconds to find speech and to plan the stretches."""

    @property
    def duration_secs(self) -> float:
        """Length of the whole audio in seconds. Not rounded, because others divide by it and the audio may be one sample."""
        return self.samples / SAMPLE_RATE

    def is_spooled(self) -> bool:
        """Whether the decoded audio is still there in its whole length: spool folders may be cleaned by others."""
        try:
            return self.pcm.stat().st_size >= self.samples * SAMPLE_BYTES
        except OSError:
            return False
