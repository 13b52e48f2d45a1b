"""Segments of a call, as they become known."""

from gpu_worker.engine.protocol import HeardWord, SegmentFound
from gpu_worker.engine.whisper_cpp.state import State
from gpu_worker.engine.whisper_cpp.words import Grouped, Speller


class SegmentReader:
    """Reads the segments of one call in order."""

    def __init__(self, state: State, seconds: float, temperature: float, step: float) -> None:
        """`seconds` is the true length of the audio: whisper.cpp gives times behind it, which are cut to it.

        `temperature` is the first one that is tried in each window, `step` how much warmer each next one is.
        """
        self._state, self._seconds = state, seconds
        self._temperature, self._step = temperature, step
        self._speller: Speller | None = None
        self._language = ""
        self.tokens = self.windows = 0
        """Text tokens and windows so far. Windows that were only encoded to find the language are none."""
        self._fallbacks = 0

    def window_begins(self) -> None:
        """Say that what comes now is from another window."""
        self._fallbacks = self._state.counters().fallbacks
        self.windows += 1

    def new(self, count: int) -> list[SegmentFound]:
        """Return the segments that are new: `count` of them."""
        total = self._state.segments
        if self._speller is None:
            self._language = self._state.language
            self._speller = Speller(self._language)
        tried = self._state.counters().fallbacks - self._fallbacks
        temperature = round(self._temperature + tried * self._step, 3)
        return [self._segment(index, self._speller, temperature) for index in range(total - count, total)]

    def _segment(self, index: int, speller: Speller, temperature: float) -> SegmentFound:
        start, end = (self._to_seconds(at) for at in self._state.times(index))
        tokens = self._state.tokens(index)
        words = speller.words(tokens)
        self.tokens += len(tokens)
        return SegmentFound(
            start=start,
            end=max(start, end),
            words=[self._word(word) for word in words],
            language=self._language,
            temperature=temperature,
            avg_logprob=round(sum(token.logprob for token in tokens) / max(1, len(tokens)), 4),
        )

    def _word(self, word: Grouped) -> HeardWord:
        return HeardWord(
            start=self._to_seconds(word.tokens[0].start),
            end=self._to_seconds(word.tokens[-1].end),
            text=word.text,
            probability=round(min(token.probability for token in word.tokens), 4),
            tokens=[token.id for token in word.tokens],
            pieces=word.pieces,
        )

    def _to_seconds(self, at: float) -> float:
        return round(min(max(0.0, at), self._seconds), 3)
