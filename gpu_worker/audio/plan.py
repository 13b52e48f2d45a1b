"""The plan of a job: where its decoded audio is, and in which portions the engine gets it."""

from pathlib import Path

import msgspec

from gpu_worker.audio.stretches import Stretch
from gpu_worker.audio.verdict import Findings
from gpu_worker.audio.voice import Voice
from gpu_worker.pcm import SAMPLE_BYTES, SAMPLE_RATE


class Piece(msgspec.Struct, kw_only=True, frozen=True):
    """What one call of the engine gets."""

    pcm: Path
    """A file of samples (gpu_worker/pcm.py) in the job's spool folder."""
    stretch: Stretch
    voice: Voice
    """Where somebody speaks in this file."""
    channel: int | None = None
    """The channel that is in this file, counted from 1, where each is transcribed by itself."""


Portion = list[Piece]
"""What is committed together: one piece, or the same time of several channels."""


class Plan(msgspec.Struct, kw_only=True, frozen=True):
    """A job that is ready for the engine. The same audio and options always give the same plan."""

    portions: list[Portion]
    """In order of time."""
    samples: int
    """Length of the whole audio in samples."""
    findings: Findings
    fetch_secs: float
    decode_secs: float
    plan_secs: float
    """Seconds to find speech and to plan the portions."""

    @property
    def audio_secs(self) -> float:
        """Length of what was decoded, in seconds. Not rounded, because others divide by it and it may be one sample."""
        return self.samples / SAMPLE_RATE

    def is_spooled(self) -> bool:
        """Whether the decoded audio is still there in its whole length: spool folders may be cleaned by others."""
        try:
            return all(
                piece.pcm.stat().st_size >= self.samples * SAMPLE_BYTES
                for portion in self.portions
                for piece in portion
            )
        except OSError:
            return False
