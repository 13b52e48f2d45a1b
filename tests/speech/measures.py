"""What is measured of a transcript: wrong words against a reference, and times against a timeline. Pure."""

import statistics
from collections.abc import Sequence

import jiwer
import msgspec
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

WITHOUT_SPACES = ("zh", "ja")
"""Languages that are judged by characters, because they do not separate words."""
OFF_SECS = 0.5
"""A time further than this from any speech is wrong."""
LONG_WORD_SECS = 2.0
Span = tuple[float, float]
ENGLISH, OTHERS = EnglishTextNormalizer(), BasicTextNormalizer()


class Said(msgspec.Struct, frozen=True):
    """A segment or a word, in seconds of the file."""

    start: float
    end: float
    text: str


class Heard(msgspec.Struct, frozen=True):
    """What one run has made of a recording."""

    language: str
    segments: tuple[Said, ...]
    words: tuple[Said, ...]
    """None of them where they were not asked for."""
    secs: float
    """How long it took, without loading the model."""

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(segment.text for segment in self.segments).strip()


class Errors(msgspec.Struct, frozen=True):
    """Substituted, left out and added words or characters, and how many the reference has."""

    wrong: int
    length: int

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(self.wrong + other.wrong, self.length + other.length)

    @property
    def rate(self) -> float:
        """The share that is wrong. Where nothing is said, every word is one too many."""
        return self.wrong / max(self.length, 1)


class Times(msgspec.Struct, frozen=True):
    """How far times are from a timeline, in seconds."""

    starts: tuple[float, ...]
    """For each piece of speech, where its first segment begins, less where it begins."""
    ends: tuple[float, ...]
    missed: int
    """Pieces of speech in which no segment mostly lies."""
    off_starts: tuple[float, ...]
    """For each segment, how far its start is from any speech."""
    off_ends: tuple[float, ...]
    long_words: int
    """Words that last longer than any word does."""
    off_words: int
    """Words whose middle is not in speech."""


def measure(language: str | None) -> str:
    """Return what is counted in a language: word errors or character errors."""
    return "CER" if language in WITHOUT_SPACES else "WER"


def errors(reference: str, heard: str, language: str | None) -> Errors:
    """Compare two texts without what a normaliser takes for spelling."""
    said, found = (_normal(text, language) for text in (reference, heard))
    if not said:
        return Errors(len(found), 0)
    if not found:
        return Errors(len(said), len(said))
    counted = jiwer.process_words([" ".join(said)], [" ".join(found)])
    return Errors(counted.substitutions + counted.deletions + counted.insertions, len(said))


def _normal(text: str, language: str | None) -> list[str]:
    """Return the words, or the characters where words are not separated."""
    plain = str((ENGLISH if language == "en" else OTHERS)(text))
    return list("".join(plain.split())) if language in WITHOUT_SPACES else plain.split()


def times(heard: Heard, speech: Sequence[Span]) -> Times:
    """Compare a transcript with the times at which somebody speaks."""
    starts, ends = list[float](), list[float]()
    for start, end in speech:
        if mine := [s for s in heard.segments if _lies_in(s, (start, end))]:
            starts.append(mine[0].start - start)
            ends.append(mine[-1].end - end)
    return Times(
        starts=tuple(starts),
        ends=tuple(ends),
        missed=len(speech) - len(starts),
        off_starts=tuple(off(s.start, speech) for s in heard.segments),
        off_ends=tuple(off(s.end, speech) for s in heard.segments),
        long_words=sum(w.end - w.start > LONG_WORD_SECS for w in heard.words),
        off_words=sum(off((w.start + w.end) / 2, speech) > OFF_SECS for w in heard.words),
    )


def off(time: float, speech: Sequence[Span]) -> float:
    """Return how far a time is from any speech; 0 within it."""
    return min((max(start - time, time - end, 0.0) for start, end in speech), default=0.0)


def _lies_in(segment: Said, span: Span) -> bool:
    """Whether more than half of it does."""
    inside = min(segment.end, span[1]) - max(segment.start, span[0])
    return inside > (segment.end - segment.start) / 2


def middle_and_worst(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the largest of the sizes; zeros where there are none."""
    sizes = [abs(value) for value in values]
    return (statistics.median(sizes), max(sizes)) if sizes else (0.0, 0.0)


def same(runs: Sequence[Heard]) -> bool:
    """Whether all runs have the same segments and words, with the same times."""
    return len({(run.segments, run.words) for run in runs}) <= 1


def agreement(runs: Sequence[Heard]) -> str:
    """Return in how far the runs are the same."""
    if same(runs):
        return "alike"
    return "times differ" if len({run.text for run in runs}) == 1 else "text differs"
