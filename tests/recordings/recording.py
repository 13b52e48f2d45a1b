"""A recording: how it is made, and what must come out of it."""

from dataclasses import dataclass, field
from functools import partial

from schemas.errors import ErrorCode
from schemas.recordings import WarningCode
from tests.recordings.bench import Bench, Made
from tests.support.http import EXPECTED

PHRASES = [(p["start"], p["text"]) for p in EXPECTED["english.flac"]["phrases"]]
ALL = (0, 1, 2)


@dataclass(frozen=True)
class Recording:
    """One recording, and what a job must say of it."""

    name: str
    make: Made
    phrases: tuple[int, ...] = ALL
    """Which of the three phrases are heard."""
    shift: float = 0.0
    """How much later than in the spoken file they are, in seconds."""
    later: dict[int, float] = field(default_factory=dict)
    """How much later single phrases are."""
    warnings: tuple[WarningCode, ...] = ()
    may_warn: tuple[WarningCode, ...] = ()
    """Warnings that are right as well."""
    error: ErrorCode | None = None
    accuracy: float = 1.0
    """Share of the words that must be right. The demo model has heard no lossy codec when it was trained."""
    says: str = ""
    """A part of the error's sentence."""
    options: dict[str, str] = field(default_factory=dict)
    track: int = 1
    seconds: float | None = None
    """Length that a player shows."""
    channels: tuple[int, ...] = ()
    """With `split`: the channel of each segment."""
    rare: bool = False
    """Whether it is left to `make slow`."""
    optional: bool = False
    """Whether some builds of ffmpeg cannot make it."""

    def expected(self) -> list[tuple[float, str]]:
        """Return start and words of each phrase that must be heard."""
        shifts = [self.later.get(number, self.shift) for number in range(len(PHRASES))]
        return [(PHRASES[n][0] + shifts[n], PHRASES[n][1]) for n in self.phrases]


def encoded(
    name: str, *options: str, optional: bool = False, rare: bool = False, accuracy: float = 1.0
) -> Recording:
    """Return a recording that one encoder and one container make; its name ends like the file."""
    to = name.split(" ")[-1]
    made = partial(_encode, to=to, options=options)
    return Recording(name, made, optional=optional, rare=rare, accuracy=accuracy)


def _encode(bench: Bench, to: str, options: tuple[str, ...]) -> bytes:
    return bench.encode(to, *options)


LOSSY = 0.6
"""The accuracy that is asked of codecs for telephones and the like."""
