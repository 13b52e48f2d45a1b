"""A recording, and what became of it. Pure."""

from pathlib import Path

import msgspec

from tests.speech.measures import Heard, Span

PRODUCT, CLI, CLI_VAD = "product", "whisper-cli", "whisper-cli --vad"
BEAM_SIZE = 5
RUNS = 3
"""How often the product gets the same recording."""


class Clip(msgspec.Struct, frozen=True):
    """A recording, and what is known of it."""

    path: Path
    name: str
    language: str | None
    """None where nothing is said."""
    text: str | None
    """What is said, "" for nothing, None where nobody has written it down."""
    speech: tuple[Span, ...] = ()
    """When somebody speaks, in seconds, where that is known."""
    is_twin: bool = False
    """Whether it is like another one that whisper-cli gets without voice detection, which takes minutes for noise."""

    def asked(self, model: str) -> str:
        """Return the language to ask for. A model of one language is never asked to detect another."""
        return self.language or ("en" if model.endswith(".en") else "auto")


class Measured(msgspec.Struct, frozen=True):
    """A recording, and what became of it with one model."""

    model: str
    clip: Clip
    audio_secs: float
    runs: tuple[Heard, ...]
    """Of the product."""
    peers: dict[str, Heard]
    """Of whisper-cli, without and with voice detection."""
    languages: dict[str, str]
    """What each takes the language for where nobody says it; empty for a model of one language."""

    def systems(self) -> dict[str, Heard]:
        """Return one run of each."""
        return {PRODUCT: self.runs[0], **self.peers}
